"""`python -m undo_hpc.grading IN.jsonl OUT.jsonl`: grades stored answers again, row by row, with progress."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, get_args

from undo_hpc.errors import DataError
from undo_hpc.grading.options import GradeItem
from undo_hpc.grading.pool import Checker
from undo_hpc.records import AnswerKind
from undo_hpc.system.guard import guard, prepare_streams

_EVERY_SECONDS = 1.0
_FIELDS = ("verdict", "answer", "method", "boxed")


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is 0, or the error's own."""
    parser = argparse.ArgumentParser(prog="python -m undo_hpc.grading", description=__doc__)
    add = parser.add_argument
    add("source", metavar="IN.jsonl", help="a JSON object a line; - for standard input")
    add("target", metavar="OUT.jsonl", help="the same rows with their verdicts; - for standard output")
    add("--pred-field", default="pred", help="key of the prediction (default: pred)")
    add("--gold-field", default="gold", help="key of the gold answer (default: gold)")
    add("--choices-field", default="choices", help="key of the options' texts (default: choices)")
    add("--kind", default="auto", choices=get_args(AnswerKind), help="kind of answer (default: auto)")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: one a core)")
    add("--deadline", type=float, default=5.0, help="seconds an answer may take (default: 5)")
    options = parser.parse_args(arguments)
    prepare_streams()
    return guard(lambda: regrade(options), interrupted="interrupted; the output was not written")


def regrade(options: argparse.Namespace) -> int:
    """Grades all rows; the output appears under its name only when it is whole. Prints the counts of verdicts."""
    target = Path(options.target)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        if options.target == "-":
            counts = _copy(options, sys.stdout)
        else:
            with temporary.open("x", encoding="utf-8") as out:
                counts = _copy(options, out)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(target)
    except OSError as error:
        hint = "name a file in a folder that exists and is writable"
        raise DataError(f"cannot write {target}: {error.strerror}", hint=hint) from error
    finally:
        temporary.unlink(missing_ok=True)
    total = counts.total()
    shares = ", ".join(f"{name} {n} ({100 * n / total:.1f} %)" for name, n in counts.most_common())
    print(f"graded {total} rows: {shares or 'the input is empty'}", file=sys.stderr)
    return 0


def _copy(options: argparse.Namespace, out: TextIO) -> Counter[str]:
    rows: deque[dict[str, Any]] = deque()

    def items() -> Iterator[GradeItem]:
        for row, item in read_items(options):
            rows.append(row)
            yield item

    counts: Counter[str] = Counter()
    last, end = time.monotonic(), "\r" if sys.stderr.isatty() else "\n"
    with Checker(options.workers, options.deadline) as checker:
        for grade in checker.grade_many(items()):
            row = rows.popleft() | {name: getattr(grade, name) for name in _FIELDS}
            out.write(json.dumps(row) + "\n")
            counts[grade.verdict] += 1
            if time.monotonic() - last > _EVERY_SECONDS:
                last = time.monotonic()
                said = f"{counts.total()} graded, {counts['correct']} correct"
                print(said, end=end, file=sys.stderr, flush=True)
    return counts


def read_items(options: argparse.Namespace) -> Iterator[tuple[dict[str, Any], GradeItem]]:
    """The rows of the input. Raises DataError with file and line where a line cannot be used."""
    piped = options.source == "-"
    name = "standard input" if piped else options.source
    try:
        with sys.stdin if piped else Path(name).open(encoding="utf-8", errors="surrogateescape") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _item(line, f"{name}, line {number}", options)
    except OSError as error:
        raise DataError(
            f"cannot read {name}: {error.strerror}", hint="the first argument is a JSONL file"
        ) from error


def _item(line: str, where: str, options: argparse.Namespace) -> tuple[dict[str, Any], GradeItem]:
    hint = "each line holds one JSON object; fix or remove this line"
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})", hint=hint) from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object is wanted, not {type(row).__name__}", hint=hint)
    for flag, key in (("--pred-field", options.pred_field), ("--gold-field", options.gold_field)):
        if key not in row:
            keys = ", ".join(sorted(row)[:10])
            raise DataError(f"{where}: no key {key!r}; it has {keys}", hint=f"name the right key with {flag}")
    gold, choices = row[options.gold_field], row.get(options.choices_field)
    texts = tuple(map(str, choices)) if isinstance(choices, list) else ()
    text = gold if isinstance(gold, str) else "" if gold is None else json.dumps(gold)
    return row, GradeItem(row[options.pred_field], text, options.kind, texts)


if __name__ == "__main__":
    raise SystemExit(main())
