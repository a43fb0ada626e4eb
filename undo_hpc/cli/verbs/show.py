"""Samples of a run on the terminal: what a model was asked, with the prompt as it read it, and what it answered."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from undo_hpc.cli.common import add_run, nonempty, whole_number
from undo_hpc.config.stages import TEXT_STAGES

if TYPE_CHECKING:
    from rich.console import Console

    from undo_hpc.observe.attempts import Answered, PromptReader

EXAMPLE = """examples:
  undo-hpc show checkpoints/tiny                             the student's latest answers
  undo-hpc show checkpoints/tiny --wrong --on gsm8k -n 10
  undo-hpc show checkpoints/tiny --fixed                     wrong in the iteration before, right now
  undo-hpc show checkpoints/tiny --stage generate --wrong    the teacher's wrong attempts
  undo-hpc show checkpoints/tiny --stage merge --id 3f2a     what the student learned of a problem
  undo-hpc show checkpoints/tiny --find apples --json | jq .answer
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    add_run(parser)
    parser.add_argument(
        "--stage",
        choices=TEXT_STAGES,
        help="generate: the teacher's attempts; canary: its first ones; merge: the distilled set; baseline, evaluate: the student's answers (default)",
    )
    parser.add_argument(
        "--iteration", type=int, metavar="K", help="iteration (default: the latest with rows)"
    )
    parser.add_argument("--on", type=nonempty, metavar="SET", help="only this benchmark or split")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--wrong", action="store_true", help="only those that are not right")
    which.add_argument(
        "--fixed",
        action="store_true",
        help="only right answers to problems that were wrong in the iteration before (of several answers: more than half)",
    )
    parser.add_argument(
        "--id",
        type=nonempty,
        metavar="X",
        help="only this problem: its id (or the beginning of it), or its idx",
    )
    parser.add_argument(
        "--find", type=nonempty, metavar="TEXT", help="only with this text in problem or answer; any case"
    )
    parser.add_argument(
        "-n", "--limit", type=whole_number(0), default=3, metavar="N", help="show N (default 3); 0 for all"
    )
    parser.add_argument("--full", action="store_true", help="long texts whole")
    parser.add_argument("--json", action="store_true", help="a JSON object a line, for programs")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Prints the rows that are asked for, and how many there are."""
    import itertools
    import os

    os.environ["HF_HUB_OFFLINE"] = (
        "1"  # a look at a run of somebody else's asks nobody, with a token of ours, for what it names
    )

    from undo_hpc.cli.choose import choose_run
    from undo_hpc.errors import ConfigError
    from undo_hpc.observe.attempts import PromptReader, answered, choose_stage, fixed_since, student_before
    from undo_hpc.pipeline.results import require_outputs
    from undo_hpc.pipeline.run import open_run
    from undo_hpc.stages.prepare import prepared_digest, require_added
    from undo_hpc.system.wording import counted

    opened = open_run(choose_run(arguments.run_dir))
    if arguments.fixed and arguments.stage not in (None, "evaluate"):
        raise ConfigError(
            f"--fixed compares the student's answers with those before, and {arguments.stage} has none",
            hint="leave --stage out",
        )
    stage, iteration = choose_stage(
        opened, "evaluate" if arguments.fixed else arguments.stage, arguments.iteration
    )
    plan = opened.plan(iteration)
    known = list(dict.fromkeys(part.problem_set for part in plan.slices(stage))) if plan else []
    if arguments.on and arguments.on not in known:
        hint = ", ".join(known) or "--on is for --stage baseline and evaluate"
        raise ConfigError(f"{stage} of iteration {iteration} has no set '{arguments.on}'", hint=hint)
    prepared_digest(opened)
    for name in opened.config.evaluate.added:
        if name in known and arguments.on in (None, name):
            require_added(opened, name)
    for name, number in ((stage, iteration), *[student_before(iteration)] * arguments.fixed):
        require_outputs(opened, number, name)
    before = fixed_since(opened, iteration, arguments.on or "") if arguments.fixed else None
    seen = 0

    def chosen() -> Iterator[Answered]:
        nonlocal seen
        for row in answered(opened, stage, iteration, arguments.on or "", counted=arguments.fixed):
            seen += 1
            if before is not None and (row.problem_set, row.problem.problem_id) not in before:
                continue
            if _matches(row, arguments):
                yield row

    rows = chosen()
    reader = PromptReader(opened)
    shown = 0
    for row in itertools.islice(rows, arguments.limit or None):
        earlier = before[row.problem_set, row.problem.problem_id] if before else None
        if arguments.json:
            _print_json(row, reader, earlier)
        else:
            _print(row, reader, earlier, console, full=arguments.full)
        shown += 1
    matching = shown + sum(1 for _ in rows)
    if not arguments.json:
        more = "; all of them: -n 0" if matching > shown else ""
        console.print(
            f"{shown} of {matching:,} that match, of {counted(seen, 'row')} of {stage} of iteration {iteration}{more}",
            style="dim", highlight=False, soft_wrap=True,
        )  # fmt: skip
    return 0


def _matches(row: Answered, arguments: argparse.Namespace) -> bool:
    attempt, problem = row.attempt, row.problem
    right = attempt.verdict == "correct"
    if (arguments.wrong and right) or (arguments.fixed and not right):
        return False
    if arguments.id and not problem.problem_id.startswith(arguments.id) and arguments.id != str(problem.idx):
        return False
    text = arguments.find.casefold() if arguments.find else ""
    return text in problem.problem.casefold() or text in attempt.text.casefold()


def _print(
    row: Answered, reader: PromptReader, earlier: Answered | None, console: Console, *, full: bool
) -> None:
    from undo_hpc.observe.wrapped import quote, say

    attempt, problem = row.attempt, row.problem
    what = row.problem_set or ("rationale" if row.stage == "merge" else "teacher")
    say(
        console,
        f"{what} {problem.idx} ({problem.problem_id}), {row.stage} {row.iteration}, attempt {attempt.attempt}",
        style="bold",
    )
    found = (
        f"; read as {attempt.answer!r}" + f" ({attempt.method})" * bool(attempt.method)
        if attempt.answer
        else ""
    )
    say(console, f"  {attempt.verdict.replace('_', ' ')}; ground truth {problem.ground_truth!r}{found}")
    if row.stage != "merge":
        tokens = f"{attempt.prompt_tokens:,} tokens read, {attempt.completion_tokens:,} written"
        facts = [tokens, "cut off" if attempt.finish_reason == "length" else attempt.finish_reason]
        facts += [f"not learned: {', '.join(attempt.flags)}"] if attempt.flags else []
        facts += [f"error: {attempt.error}"] if attempt.error else []
        say(console, f"  {'; '.join(facts)}")
    prompt, remark = reader.as_read(row)
    parts = [(f"prompt ({remark})" if remark else "prompt as the model reads it", prompt)]
    if earlier is not None:
        parts.append(
            (f"before ({earlier.stage} {earlier.iteration}): {earlier.attempt.verdict}", earlier.attempt.text)
        )
    parts.append(("answer" if row.problem_set else "rationale", attempt.text))
    if row.stage == "merge":
        tokens, counts = reader.learned(row)
        parts.append((f"what the student learns of it ({counts})", tokens))
    for title, text in parts:
        say(console, f"  {title}")
        quote(console, text, whole=full)
    console.print()


def _print_json(row: Answered, reader: PromptReader, earlier: Answered | None) -> None:
    import sys

    from undo_hpc.storage.shards import encode_row
    from undo_hpc.system.wording import printable_json

    prompt, remark = reader.as_read(row)
    data = {
        "stage": row.stage, "iteration": row.iteration, "set": row.problem_set, "problem_id": row.problem.problem_id,
        "idx": row.problem.idx, "problem": row.problem.problem, "ground_truth": row.problem.ground_truth, "prompt": prompt,
        "prompt_remark": remark, **{key: value for key, value in row.attempt.to_dict().items() if key not in ("idx", "problem_id")},
        "before": earlier.attempt.text if earlier else None,
    }  # fmt: skip
    sys.stdout.write(printable_json(encode_row(data).decode()))  # a lone surrogate is no error
