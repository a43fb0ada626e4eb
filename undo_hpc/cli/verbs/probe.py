"""A short sweep of the teacher engine's settings on this machine, with a run's own prompts: which are fastest, and the lines for the configuration.

Start it where the teacher will run: on a node, in a job (srun). It writes nothing into a run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undo_hpc.cli.common import add_set, nonempty, real_number, whole_number

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.config.schema import RunConfig
    from undo_hpc.control.probe import Axes, Measured
    from undo_hpc.records import Problem

EXAMPLE = """examples:
  srun --gpus 4 undo-hpc probe my.yaml
  undo-hpc probe checkpoints/mine --problems 1024 --max-new-tokens 1024
  undo-hpc probe my.yaml --try max_num_seqs=256,512 --try kv_cache_dtype=auto,fp8
"""
PROBLEMS = {"vllm": 512, "transformers": 128}
SHORT = 512  # new tokens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument(
        "of",
        type=nonempty,
        metavar="CONFIG_OR_RUN",
        help="a preset, a YAML file, or a run directory, which is only read",
    )
    add_set(parser, "a value over its own; repeatable")
    parser.add_argument(
        "--problems", type=int, metavar="N", help="prompts of a measurement (default: 512, transformers 128)"
    )
    parser.add_argument(
        "--max-new-tokens",
        type=whole_number(1),
        metavar="N",
        help=f"longest answer (default: the configuration's, at most {SHORT})",
    )
    parser.add_argument(
        "--minutes",
        type=real_number,
        default=15.0,
        metavar="M",
        help="most minutes for a setting, loading included (default: 15)",
    )
    parser.add_argument(
        "--try", action="append", default=[], metavar="KEY=A,B,...", dest="tries",
        help="values of a key of the engine to be tried, in place of the usual sweep; repeatable",
    )  # fmt: skip


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measures setting after setting; prints the table and the lines for the configuration."""
    from undo_hpc.config.differences import is_neutral
    from undo_hpc.control.probe import Measured, default_axes, faster, measure_apart, sweep, teacher_requests
    from undo_hpc.errors import ConfigError, EngineError
    from undo_hpc.observe.wrapped import say
    from undo_hpc.system.wording import counted

    config, is_run = _config(arguments)
    engine = _engine(config)
    count = PROBLEMS[engine] if arguments.problems is None else arguments.problems
    if count < 1 or arguments.minutes <= 0:
        raise ConfigError("--problems and --minutes must be above 0")
    chosen = [_axis(engine, word) for word in arguments.tries]
    for key, values in chosen:  # a wrong key is told before anything is loaded
        for value in values:
            _with(config, {key: value})
    model, problems = _model_and_problems(config, Path(arguments.of) if is_run else None, count)
    requests = teacher_requests(config, problems)
    say(console, f"{engine}, {config.teacher.model}: {counted(len(requests), 'prompt')} a setting, at most "
                 f"{counted(requests[0].max_tokens, 'new token')}")  # fmt: skip

    settings = config.generate.engine
    at_once = settings.vllm.max_num_seqs if engine == "vllm" else settings.transformers.max_batch
    if len(requests) < at_once:
        say(
            console,
            f"warning: fewer prompts than the engine takes at once ({at_once}): small settings look better than they are",
        )

    def measure(values: Any) -> Measured:
        say(console, f"  {_words(values)} ...")
        return measure_apart(
            _with(config, values).generate.engine, model, requests, values, arguments.minutes * 60
        )

    def axes(first: Measured) -> Axes:
        return chosen or default_axes(engine, first.gpus, len(requests))

    found, best = [], Measured()
    for item in sweep(measure, axes, lambda key, value: _with(config, {key: value}) == config):
        found.append(item)
        best = item if item is found[0] else faster(best, item)
    console.print(_table(found))
    if not best.tokens_per_s:
        raise EngineError(
            "not one setting could be measured",
            hint="the table says why; the configured one is its first row",
        )
    say(
        console,
        "for the configuration:"
        if best.values
        else "for the configuration, whose settings are the fastest that were tried:",
    )
    for line in _lines(best):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    fixed = [key for key in best.values if not is_neutral(f"generate.engine.{key}")]
    if fixed and is_run:
        say(console, f"{', '.join(fixed)}: part of the results, so for a new run only")
    return 0


def _config(arguments: argparse.Namespace) -> tuple[RunConfig, bool]:
    """The configuration with short answers, and whether it is a run's."""
    from undo_hpc.config.load import load_config, override
    from undo_hpc.pipeline.layout import Layout
    from undo_hpc.pipeline.run import open_run, require_trusted_run

    place = Path(arguments.of)
    is_run = Layout(place).config.exists()
    if is_run:
        require_trusted_run(place)  # the model and its engine are loaded
    config = override(open_run(place).config if is_run else load_config(arguments.of), arguments.sets)
    longest = arguments.max_new_tokens or min(SHORT, config.generate.sampling.max_new_tokens)
    sampling = "generate.sampling.max_new_tokens"
    return override(config, [f"{sampling}={longest}", f"{sampling}_by_iteration={{}}"]), is_run


def _engine(config: RunConfig) -> str:
    """The engine's name. Raises ConfigError where it has no settings to be tried, or is not installed."""
    import sys
    from importlib.util import find_spec

    from undo_hpc.config.parts import asks, has_rationales
    from undo_hpc.errors import ConfigError

    name = config.generate.engine.name
    if not asks(config, "teacher") or has_rationales(config) or not config.teacher.model:
        raise ConfigError(
            "this configuration asks no teacher in iteration 0", hint="name one in teacher.model"
        )
    if name not in PROBLEMS:
        raise ConfigError(
            f"generate.engine.name is {name}, whose settings are not the probe's to try",
            hint="the probe measures the engines vllm and transformers; for a server, see its own benchmark",
        )
    if find_spec(name) is None:
        raise ConfigError(
            f"generate.engine.name is {name}, which is not installed in {sys.prefix}",
            hint="start the probe with the Python of the nodes, or take another engine: --set generate.engine.name=transformers",
        )
    return name


def _model_and_problems(config: RunConfig, run_dir: Path | None, count: int) -> tuple[Any, list[Problem]]:
    import time

    from undo_hpc.models.resolve import resolve_model
    from undo_hpc.pipeline.run import open_run
    from undo_hpc.stages.prepare import read_sources

    resolve_model(config.teacher.model)  # a wrong one is told once, not with each setting
    date = config.teacher.date or time.strftime("%Y-%m-%d")
    if run_dir is not None and open_run(run_dir).layout.prepared.exists():
        run = open_run(run_dir)
        problems, date = run.problems("train", 0, count), run.model("teacher").date
    else:
        problems = list(read_sources(config, []).splits.train[:count])
    return config.teacher.model_copy(update={"date": date}), problems


def _axis(engine: str, word: str) -> tuple[str, list[Any]]:
    """`max_num_seqs=256,512` as a key below generate.engine and its values; what vLLM alone knows goes into `extra`."""
    import yaml

    from undo_hpc.config.schema import VllmEngineConfig
    from undo_hpc.config.yaml_text import parse_value
    from undo_hpc.errors import ConfigError

    key, equals, values = word.partition("=")
    if not equals or not values:
        raise ConfigError(
            f"--try {word}: expected KEY=A,B,...", hint="for example --try max_num_seqs=256,512"
        )
    extra = "extra." * (engine == "vllm" and key not in VllmEngineConfig.model_fields and "." not in key)
    try:
        parsed = [parse_value(value) for value in values.split(",")]
    except yaml.YAMLError as error:
        raise ConfigError(f"--try {word}: a value cannot be read ({error})", hint="quote it") from error
    return f"{engine}.{extra}{key}", parsed


def _with(config: RunConfig, values: Any) -> RunConfig:
    from undo_hpc.config.load import override

    return override(config, [f"generate.engine.{key}={json.dumps(value)}" for key, value in values.items()])


def _words(values: Any) -> str:
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in values.items()) or "as configured"


def _table(found: list[Measured]) -> Any:
    from rich.table import Table

    table, before = Table(), found[0].tokens_per_s
    table.add_column("setting", overflow="fold")
    for heading in ("tokens/s", "ratio", "load s"):
        table.add_column(heading, justify="right")
    for item in found:
        if item.failed:
            table.add_row(f"{_words(item.values)}\nfailed: {' '.join(item.failed.split())[:300]}")
        else:
            ratio = f"{item.tokens_per_s / before:.2f}" if before else ""
            table.add_row(_words(item.values), f"{item.tokens_per_s:,.0f}", ratio, f"{item.load_s:.0f}")
    return table


def _lines(best: Measured) -> list[str]:
    """The fastest setting as YAML."""
    import yaml

    made: dict[str, Any] = {"tokens_per_second": round(best.tokens_per_s, 1)}
    for key, value in best.values.items():
        place = made.setdefault("engine", {})
        *sections, last = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return str(yaml.safe_dump({"generate": made}, sort_keys=False)).splitlines()
