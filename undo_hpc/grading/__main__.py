"""`python -m undo_hpc.grading IN.jsonl OUT.jsonl`: grades stored answers again, row by row, with progress."""

from __future__ import annotations

import argparse
import json
import os
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


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is 0, or the error's own."""
    parser = argparse.ArgumentParser(prog="python -m undo_hpc.grading", description=__doc__)
    parser.add_argument("source", metavar="IN.jsonl", help="a JSON object a line; - for standard input")
    parser.add_argument(
        "target",
        metavar="OUT.jsonl",
        help="the same rows plus verdict, answer, method; - for standard output",
    )
    parser.add_argument("--pred-field", default="pred", help="key of the prediction (default: pred)")
    parser.add_argument("--gold-field", default="gold", help="key of the gold answer (default: gold)")
    parser.add_argument(
        "--choices-field",
        default="choices",
        help="key of the options' texts, where there are any (default: choices)",
    )
    parser.add_argument(
        "--kind", default="auto", choices=get_args(AnswerKind), help="kind of answer (default: auto)"
    )
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: one a core)"
    )
    parser.add_argument("--deadline", type=float, default=5.0, help="seconds an answer may take (default: 5)")
    options = parser.parse_args(arguments)
    prepare_streams()
    return guard(lambda: _report(regrade(options)), interrupted="interrupted; the output was not written")


def _report(counts: Counter[str]) -> int:
    total = sum(counts.values())
    shares = ", ".join(
        f"{name} {count} ({100 * count / total:.1f} %)" for name, count in counts.most_common()
    )
    print(f"graded {total} rows: {shares}" if total else "graded 0 rows: the input is empty", file=sys.stderr)
    return 0


def regrade(options: argparse.Namespace) -> Counter[str]:
    """Grades all rows; the output appears under its name only when it is whole."""
    counts: Counter[str] = Counter()
    if options.target == "-":
        _copy(options, sys.stdout, counts)
        return counts
    target = Path(options.target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as out:
            _copy(options, out, counts)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
    except OSError as error:
        raise DataError(
            f"cannot write {target}: {error.strerror}",
            hint="name a file in a folder that exists and is writable",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return counts


def _copy(options: argparse.Namespace, out: TextIO, counts: Counter[str]) -> None:
    rows: deque[dict[str, Any]] = deque()

    def items() -> Iterator[GradeItem]:
        for row, item in read_items(options):
            rows.append(row)
            yield item

    last, shown = time.monotonic(), sys.stderr.isatty()
    with Checker(options.workers, options.deadline) as checker:
        for grade in checker.grade_many(items()):
            row = rows.popleft() | {"verdict": grade.verdict, "answer": grade.answer, "method": grade.method}
            row["boxed"] = grade.boxed
            out.write(json.dumps(row, ensure_ascii=not _encodable(row)) + "\n")
            counts[grade.verdict] += 1
            if time.monotonic() - last > _EVERY_SECONDS:
                last = time.monotonic()
                print(
                    f"{sum(counts.values())} graded, {counts['correct']} correct",
                    end="\r" if shown else "\n",
                    file=sys.stderr,
                    flush=True,
                )


def _encodable(row: dict[str, Any]) -> bool:
    """Whether the row can stand as UTF-8; a lone surrogate stays escaped."""
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_items(options: argparse.Namespace) -> Iterator[tuple[dict[str, Any], GradeItem]]:
    """The rows of the input. Raises DataError with file and line where a line cannot be used."""
    name = "standard input" if options.source == "-" else options.source
    try:
        with (
            sys.stdin
            if options.source == "-"
            else Path(options.source).open(encoding="utf-8", errors="surrogateescape") as lines
        ):
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _item(line, f"{name}, line {number}", options)
    except OSError as error:
        raise DataError(
            f"cannot read {name}: {error.strerror}", hint="the first argument is a JSONL file"
        ) from error


def _item(line: str, where: str, options: argparse.Namespace) -> tuple[dict[str, Any], GradeItem]:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(
            f"{where}: not JSON ({error})", hint="each line holds one JSON object; fix or remove this line"
        ) from error
    if not isinstance(row, dict):
        raise DataError(
            f"{where}: a JSON object is wanted, not {type(row).__name__}",
            hint="each line holds one JSON object",
        )
    for key in (options.pred_field, options.gold_field):
        if key not in row:
            flag = "--pred-field" if key == options.pred_field else "--gold-field"
            raise DataError(
                f"{where}: no key {key!r}; it has {', '.join(sorted(row)[:10])}",
                hint=f"name the right key with {flag}",
            )
    choices = row.get(options.choices_field)
    texts = tuple(str(choice) for choice in choices) if isinstance(choices, list) else ()
    return row, GradeItem(row[options.pred_field], _as_text(row[options.gold_field]), options.kind, texts)


def _as_text(gold: Any) -> str:
    return gold if isinstance(gold, str) else "" if gold is None else json.dumps(gold)


if __name__ == "__main__":
    raise SystemExit(main())
