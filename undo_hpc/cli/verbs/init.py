"""Writes a configuration to begin with: asks what only you know, and comments every line. The file is tried before it is written."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.cli.common import path_argument

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc init                                     asks, then writes my.yaml
  undo-hpc init my.yaml --data problems.jsonl --teacher Qwen/Qwen3-8B --student Qwen/Qwen2.5-1.5B-Instruct --engine vllm
  undo-hpc init --data org/name --teacher A --student B --benchmarks gsm8k,math500 --iterations 2
"""
# (flag, question, what is taken where nothing is answered; None: it must be given)
QUESTIONS: tuple[tuple[str, str, str | None], ...] = (
    ("data", "training problems: a file or folder, or org/name on the Hub", None),
    ("problem", "column of the problem (empty: found by its usual names)", ""),
    ("answer", "column of the answer (empty: found by its usual names)", ""),
    ("teacher", "teacher: a model's folder or Hub id", None),
    ("student", "student: a model's folder or Hub id", None),
    ("engine", "engine: transformers (any machine), vllm (GPUs) or openai (a server)", "transformers"),
    ("benchmarks", "benchmarks, with commas (undo-hpc data list shows them; empty for none)", ""),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument(
        "file", type=path_argument, nargs="?", default=Path("my.yaml"), help="file to write (default my.yaml)"
    )
    for name, question, _ in QUESTIONS:
        parser.add_argument(f"--{name}", metavar=name.upper(), help=question)
    parser.add_argument("--iterations", type=int, default=3, metavar="N", help="most iterations (default 3)")
    parser.add_argument("--profile", metavar="FILE", help="YAML file that describes a SLURM cluster")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Asks for what is missing on a terminal, writes the file, and says what to do next."""
    from undo_hpc.errors import ConfigError
    from undo_hpc.observe.wrapped import say
    from undo_hpc.storage.atomic import write_text
    from undo_hpc.system.invocation import display_path, launcher_hint

    path: Path = arguments.file
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path}: the file's name should end with .yaml", hint=f"for example {path}.yaml")
    if path.exists() and not arguments.force:
        raise ConfigError(f"{path} exists already", hint="take another name, or --force to replace it")
    answers = {name: getattr(arguments, name) for name, _, _ in QUESTIONS}
    if not sys.stdin.isatty():
        missing = [f"--{name}" for name, _, usual in QUESTIONS if usual is None and not answers[name]]
        if missing:
            raise ConfigError(
                f"missing: {' '.join(missing)}", hint="on a terminal they are asked for; see --help"
            )
    for name, question, usual in QUESTIONS:
        while not answers[name] and sys.stdin.isatty():
            answers[name] = input(f"{question}{f' [{usual}]' if usual else ''}: ").strip() or usual
            if answers[name] is not None:
                break
        answers[name] = answers[name] or usual or ""
    text = compose(answers, path.stem, arguments.iterations, arguments.profile or "")
    _try(text, path)
    write_text(path, text)
    say(console, f"wrote {path}")
    dry_run = launcher_hint(f"--config {display_path(path)} --dry-run")
    console.print(
        f"next: {dry_run}    checks it, reads the data, writes nothing",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0


def compose(answers: dict[str, str], name: str, iterations: int, profile: str) -> str:
    """The file: what was answered, and the keys that are changed most often, each with its meaning."""
    import textwrap

    from undo_hpc.config.describe import meaning, to_yaml
    from undo_hpc.config.load import override
    from undo_hpc.config.schema import RunConfig
    from undo_hpc.system.data_files import expanded

    local = expanded(answers["data"]).exists() or "*" in answers["data"]
    given = {
        "name": name, "iterations": iterations, f"data.train.{'path' if local else 'hub'}": answers["data"],
        "data.train.fields.problem": answers["problem"], "data.train.fields.answer": answers["answer"],
        "teacher.model": answers["teacher"], "student.model": answers["student"], "generate.engine.name": answers["engine"],
        "evaluate.engine.name": "transformers" if answers["engine"] == "openai" else answers["engine"],
        "evaluate.benchmarks": [part.strip() for part in answers["benchmarks"].split(",") if part.strip()],
        "cluster.kind": "slurm" if profile else "local", "cluster.profile": profile,
    }  # fmt: skip
    defaults = override(RunConfig(), [])
    lines = [
        "# A run of UNDO iterative distillation. All keys: undo-hpc config; a key without '#' is set here."
    ]
    open_sections: tuple[str, ...] = ()
    for key in _KEYS:
        *sections, last = key.split(".")
        if not sections:
            open_sections = ()
        for depth, section in enumerate(sections):
            if open_sections[: depth + 1] != tuple(sections[: depth + 1]):
                lines += [""] * (depth == 0) + [f"{'  ' * depth}{section}:"]
                open_sections = tuple(sections[: depth + 1])
        value, indent = given.get(key), "  " * len(sections)
        lines += [f"{indent}# {line}" for line in textwrap.wrap(meaning(key), 96 - len(indent))]
        if value not in (None, "", []):
            lines.append(f"{indent}{last}: {to_yaml(value)}")
            continue
        usual: object = defaults
        for part in key.split("."):
            usual = getattr(usual, part)
        lines.append(f"{indent}# {last}: {to_yaml(usual)}")
    return "\n".join(lines) + "\n"


# In the file's order; each section's keys stand together.
_KEYS = (
    "name", "seed", "iterations", "data.train.path", "data.train.hub", "data.train.split", "data.train.fields.problem",
    "data.train.fields.answer", "data.train.sample", "data.diagnosis", "data.validation", "teacher.model", "student.model",
    "method.preset", "generate.engine.name", "generate.samples", "generate.max_attempts", "generate.sampling.temperature",
    "generate.sampling.max_new_tokens", "train.epochs", "train.learning_rate", "train.tokens_per_batch", "train.max_length",
    "evaluate.benchmarks", "evaluate.engine.name", "evaluate.sampling.max_new_tokens", "cluster.kind", "cluster.profile",
)  # fmt: skip


def _try(text: str, path: Path) -> None:
    """Raises ConfigError where the configuration would not load; nothing is left behind."""
    import tempfile

    from undo_hpc.config.load import load_config
    from undo_hpc.errors import ConfigError

    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=path.resolve().parent, prefix=".init-") as file:
        file.write(text)
        file.flush()
        try:
            load_config(file.name)
        except ConfigError as error:
            raise ConfigError(error.message.replace(file.name, str(path)), hint=error.hint) from error
