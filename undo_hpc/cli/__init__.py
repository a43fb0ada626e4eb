"""The command line: thin entry points. Nothing heavy is imported before the arguments are read.

Each verb is a module of `cli.verbs` with `add_arguments(parser)` and `run(arguments, console) -> int`; only the verb that is
asked for is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from undo_hpc.cli.common import VERB_EXAMPLES, add_verbosity, interrupt
from undo_hpc.system.launcher import ending_silently

VERBS = {
    "init": "write a commented configuration to begin with",
    "config": "every key with its value and meaning; a schema; what differs from a run",
    "run": "start a run, or resume it",
    "generate": "a teacher alone: rationales for any problems",
    "train": "a student alone, on rationales that exist already",
    "evaluate": "a model alone on benchmarks, or a benchmark more for a run",
    "fork": "a new run with other values, which takes over what they do not touch",
    "status": "where a run stands, why it waits, what to do next",
    "logs": "what a task has printed",
    "show": "samples: prompts as the models read them, rationales, answers; what was wrong, what was fixed",
    "list": "the runs of a folder",
    "report": "write the report (HTML, Markdown) again",
    "compare": "runs on the same items: differences, intervals, what can be concluded",
    "cost": "hours: useful, lost, idle; what a rationale and a point of accuracy cost",
    "regrade": "grade the stored answers again with the present checker",
    "export": "the distilled set or preference pairs as other trainers read them",
    "data": "write a benchmark in boxed form",
    "push": "publish data, predictions and students on the Hub",
    "prune": "remove weights and checkpoints that are not needed; the evidence knows of it",
    "doctor": "check this machine, and the cluster, before a run",
    "probe": "which settings of the teacher's engine are fastest on this machine, and their lines for the configuration",
    "pause": "let running tasks save and stop; the run can be resumed later",
    "cancel": "end the jobs of a run; all data stays",
}
# What other programs, and people, call what is no verb here.
MEANT = {
    "import": "rationales that exist already are a key of the configuration: --set data.rationales.path=FILE (or .hub, .run) beside their "
    "problems; `undo-hpc train MODEL FILE` learns them alone (docs/parts.md)",
    "help": "undo-hpc --help, and undo-hpc VERB --help",
    "resume": "the same command again resumes a run: undo-hpc run --run-dir DIR",
    "stop": "undo-hpc pause RUN lets tasks save and stop, undo-hpc cancel RUN ends them",
    "campaign": "python launchers/run_campaign.py FILE",
    "diff": "undo-hpc config my.yaml --diff RUN; undo-hpc compare RUN RUN compares results",
}
DESCRIPTION = "Iterative distillation (UNDO) on SLURM clusters: run it, watch it, understand it, share it."


def main(argv: Sequence[str] | None = None) -> int:
    """`undo-hpc VERB ...`: reads the arguments, runs the verb, turns errors into messages and exit codes."""
    with ending_silently():
        return _run_verb(list(sys.argv[1:] if argv is None else argv))


def _run_verb(words: list[str]) -> int:
    from undo_hpc.system.guard import prepare_streams

    prepare_streams()
    os.environ.setdefault(
        "PYDANTIC_DISABLE_PLUGINS", "1"
    )  # looking for plugins costs more than reading a run
    verb = words[0] if words else ""
    if verb == "run":
        from undo_hpc.cli.run_iteration import main as run_main

        return run_main(words[1:], prog="undo-hpc run")
    if verb not in VERBS:
        return _overview(words)
    module = importlib.import_module(f"undo_hpc.cli.verbs.{verb}")
    parser = argparse.ArgumentParser(
        prog=f"undo-hpc {verb}",
        description=module.__doc__,
        epilog=module.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    add_verbosity(parser)
    arguments = parser.parse_args(words[1:])
    from undo_hpc.cli.errors import guard
    from undo_hpc.system.logs import level_for, log_to_terminal

    log_to_terminal(level_for(arguments.verbose, arguments.quiet))
    before = signal.signal(signal.SIGTERM, interrupt)

    def command() -> int:
        from undo_hpc.system.console import SafeConsole

        return int(module.run(arguments, SafeConsole(soft_wrap=False)))

    try:
        return guard(command, run_dir=getattr(arguments, "run_dir", None))
    finally:
        signal.signal(signal.SIGTERM, before)


def _overview(words: list[str]) -> int:
    """The list of verbs, the version, or what is wrong with the verb given."""
    parser = argparse.ArgumentParser(
        prog="undo-hpc",
        usage="undo-hpc VERB [arguments]",
        description=DESCRIPTION
        + "\n\nverbs:\n"
        + "\n".join(f"  {name:<10}{text}" for name, text in VERBS.items()),
        epilog=VERB_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    if not words:
        parser.print_help()
        return 2
    if words[0].startswith("-"):
        if parser.parse_args(words).version:
            from undo_hpc.cli.errors import guard

            return guard(_print_version)
        return 0
    import difflib

    from undo_hpc.system.wording import printable

    near = difflib.get_close_matches(words[0], VERBS, n=1)
    advice = f"did you mean '{near[0]}'?" if near else f"verbs: {', '.join(VERBS)}"
    advice = MEANT.get(words[0], advice)
    print(f"error: there is no verb '{printable(words[0])}'\n  -> {advice}", file=sys.stderr)
    return 2


def _print_version() -> int:
    from undo_hpc import __version__

    print(f"undo-hpc {__version__}")
    return 0
