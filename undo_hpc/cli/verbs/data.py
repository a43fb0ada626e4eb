"""Writes a benchmark in boxed form: a folder with parquet (problem, answer, solution ending in \\boxed{answer}) and a card."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from undo_hpc.cli.common import add_verbosity, nonempty, path_argument

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLE = """examples:
  undo-hpc data export gsm8k boxed/gsm8k
  undo-hpc data export gsm8k boxed/gsm8k --path test.jsonl     from a local file
  undo-hpc data list                                           names of the embedded benchmarks
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="export|list")
    listed = verbs.add_parser("list", help="the embedded benchmarks: name, title, size, source")
    export = verbs.add_parser("export", help="write a benchmark in boxed form", epilog=EXAMPLE,
                              formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    export.add_argument("benchmark", help="name of an embedded benchmark, or a YAML file")
    export.add_argument("out", type=path_argument, help="folder to write; must be new, or empty")
    export.add_argument("--path", type=nonempty, help="read the problems from this local file instead")
    for verb in (listed, export):  # -v and -q behind them, as behind every other verb
        add_verbosity(verb, default=argparse.SUPPRESS)


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Exports, or lists."""
    if arguments.what == "list":
        from undo_hpc.data.benchmarks import benchmark_names
        from undo_hpc.data.benchmarks.loader import describe_benchmark

        for name in benchmark_names():
            about = describe_benchmark(name)
            place = about.source.hub or about.source.path or f"embedded ({about.source.tiny})"
            size = f"{about.size:,} problems" if about.size else "any number of problems"
            console.print(
                f"{name:<16}{about.title}: {size}, {place}", highlight=False, markup=False, soft_wrap=True
            )
        return 0
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # each retry would be a line; the last failure is told
    from undo_hpc.config.schema import SourceConfig
    from undo_hpc.data.export import export_benchmark
    from undo_hpc.system.wording import counted

    override = SourceConfig(path=arguments.path) if arguments.path else None
    folder, count = export_benchmark(arguments.benchmark, arguments.out, override)
    console.print(f"{folder}: {counted(count, 'problem')}", highlight=False, markup=False, soft_wrap=True)
    return 0
