"""PURE: the small run that tries a whole one (`--smoke N`): same models, prompts and engines, few problems, nothing published."""

from __future__ import annotations

from pathlib import Path

from undo_hpc.config.load import override
from undo_hpc.config.parts import effective_iterations
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError

LEAST = 16  # problems: below it a split or the teacher's right share says nothing
ITERATIONS = 2  # the second one is the first that refines


def smoke_dir(run_dir: Path) -> Path:
    """The directory of a run's smoke test, beside it."""
    place = run_dir.resolve()
    return place.with_name(f"{place.name}-smoke")


def smoke_config(config: RunConfig, n: int) -> RunConfig:
    """The configuration of a run's smoke test.

    Args:
        n: training problems, held-out ones included, and most problems of each benchmark.

    Raises:
        ConfigError: n is too small, or no smaller than the run.
    """
    sample = config.data.train.sample
    if n < LEAST:
        raise ConfigError(
            f"--smoke {n}: fewer than {LEAST} problems show nothing", hint=f"for example --smoke {4 * LEAST}"
        )
    if sample is not None and n >= sample:
        raise ConfigError(
            f"--smoke {n}: the run itself has only {sample} problems (data.train.sample)",
            hint="take a smaller number, or start the run itself",
        )
    method, generate = config.method, config.generate
    held = max(LEAST // 4, n // 8)
    # A selection among rationales needs one more than it keeps.
    samples = min(generate.samples, max(2, method.keep + (method.select != "first")))
    values: dict[str, object] = {
        "data.train.sample": n,
        "data.validation": _held_out(config.data.validation, held),
        "data.diagnosis": _held_out(config.data.diagnosis, held),
        "iterations": min(effective_iterations(config), ITERATIONS),
        "generate.samples": samples,
        "generate.max_attempts": max(samples, min(generate.max_attempts, 2)),
        "generate.shards": 1,
        "generate.service": min(generate.service, 1),
        "train.epochs": min(config.train.epochs, 1.0),
        "distill.samples": min(config.distill.samples, 2),
        "distill.gate": "warn",  # on so few rows a refusal would be chance
        "evaluate.limit": min(config.evaluate.limit or n, n),
        "evaluate.samples": min(config.evaluate.samples, 2),
        "stop.enabled": "false",
        "hub.dataset_repo": '""',
        "hub.model_repo": '""',
        "hub.push_at_end": "false",
        "display.rows_file": '""',
    }
    small = override(config, [f"{key}={value}" for key, value in values.items()])
    evaluate = small.evaluate.model_copy(update={"added": {}})
    return small.model_copy(update={"name": f"{config.name}-smoke", "evaluate": evaluate})


def _held_out(wanted: int | float, most: int) -> int:
    """Problems of a split: none where the run has none."""
    return most if 0 < wanted < 1 else min(int(wanted), most)
