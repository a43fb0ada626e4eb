"""The figures of a campaign as Markdown, from its results.json alone: `python -m undo_hpc.campaign.markdown results.json [PAGE.md]`."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from undo_hpc.errors import ConfigError, DataError
from undo_hpc.storage.atomic import write_text
from undo_hpc.system.data_files import json_object
from undo_hpc.system.guard import guard
from undo_hpc.system.wording import percentage, points

Figures = dict[str, Any]
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"  # marks of a page that the tables stand between


def to_markdown(results: Figures) -> str:
    """Tables of accuracies, differences, controls and compute. Every share is counted: k right of n answers."""
    return (
        "\n".join(
            [
                *_accuracies(results),
                "",
                *_differences(results),
                "",
                *_controls(results),
                "",
                *_second_students(results["transfer"]),
                *_ledger(results),
            ]
        )
        + "\n"
    )


def _by_arm(runs: Sequence[Figures]) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {}
    for run in runs:
        found.setdefault(run["arm"], []).append(run)
    return found


def _accuracies(results: Figures) -> Iterator[str]:
    yield "| arm | right of all answers | % | each seed, % | standard deviation | untrained, iteration 0, 1, ..., % |"
    yield "|---|---:|---:|---|---:|---|"
    for arm, runs in _by_arm(results["runs"]).items():
        right, n = sum(run["correct"] for run in runs), sum(run["answers"] for run in runs)
        each = [100 * run["accuracy"] for run in runs]
        spread = statistics.stdev(each) if len(each) > 1 else 0.0
        steps = sorted({int(k) for run in runs for k in run["accuracies"]})
        curve = [
            statistics.fmean(100 * run["accuracies"][str(k)] for run in runs if str(k) in run["accuracies"])
            for k in steps
        ]
        chosen = [run["chosen"] for run in runs]
        names = sorted(set(chosen))
        note = (
            "" if names == [arm] else " (" + ", ".join(f"{name} {chosen.count(name)}" for name in names) + ")"
        )
        yield (
            f"| {arm}{note} | {right:,} of {n:,} | {100 * right / n:.1f} | {', '.join(f'{v:.1f}' for v in each)} | {spread:.1f} | "
            f"{', '.join(f'{v:.1f}' for v in curve)} |"
        )


def _differences(results: Figures) -> Iterator[str]:
    head = "comparison | points | 95 % interval | each seed | only first right | only second right | p | p (Holm) | p (McNemar)"
    yield f"| {head} | smallest seen | not matched |"
    yield "|---|---:|---|---|---:|---:|---:|---:|---:|---:|---|"
    for c in results["comparisons"]:
        each = ", ".join(points(value) for value in c["by_seed"].values())
        unmatched = ", ".join(
            name.replace("_", " ") + " (stated)" * (name in c["reasons"]) for name in c["unmatched"]
        )
        yield (
            f"| {c['a']} \u2212 {c['b']} | {points(c['mean'])} | {points(c['low'])} to {points(c['high'])} | {each} | {c['wins']} | "
            f"{c['losses']} | {c['p']:.2g} | {c['p_holm']:.2g} | {c['mcnemar']:.2g} | {100 * c['detectable']:.1f} | {unmatched or '-'} |"
        )
    yield ""
    yield from (f"- {c['sentence']}" for c in results["comparisons"])


def _controls(results: Figures) -> Iterator[str]:
    for kind, c in results["controls"].items():
        seen = c["above"] + (c["below"] if kind == "null" else 0)
        how = (
            "problems, names exchanged at random under each seed" if kind == "null" else "problems and seeds"
        )
        yield (
            f"- {kind} control, {c['a']} \u2212 {c['b']}: {points(c['mean'])} points (95 % interval {points(c['low'])} to {points(c['high'])}); "
            f"a difference is claimed in {seen} of {c['resamplings']} resamplings of {how}"
        )
    if halves := results["halves"]:
        ways, claims = (sum(h[key] for h in halves.values()) for key in ("splits", "differ"))
        yield f"- each arm against itself, its seeds split into halves in every way: {claims} of {ways} splits claim a difference"
    if again := results["repeated"]:
        yield (
            f"- the same student evaluated again in batches of another size ({again['arm']}, seed {again['seed']}): {again['changed']} of "
            f"{again['answers']} answers are judged otherwise"
        )


def _second_students(transfer: Figures) -> Iterator[str]:
    """What other students learnt from the rationales of an arm; nothing where the campaign had none."""
    if not transfer["runs"]:
        return
    yield "| another student, taught by | right of all answers | % | each seed, % |"
    yield "|---|---:|---:|---|"
    for arm, runs in _by_arm(transfer["runs"]).items():
        right, n = sum(run["correct"] for run in runs), sum(run["answers"] for run in runs)
        each = ", ".join(f"{100 * run['accuracy']:.1f}" for run in runs)
        yield f"| {arm} | {right:,} of {n:,} | {100 * right / n:.1f} | {each} |"
    yield ""
    yield from (f"- another student: {c['sentence']}" for c in transfer["comparisons"])
    yield ""


def _ledger(results: Figures) -> Iterator[str]:
    yield "| arm | teacher tokens | student tokens | all students | distinct problems | tokens a rationale | attempts right |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for arm, runs in _by_arm(results["runs"]).items():
        mean = {key: statistics.fmean(run["ledger"][key] for run in runs) for key in runs[0]["ledger"]}
        yield (
            f"| {arm} | {mean['teacher_tokens']:,.0f} | {mean['student_tokens']:,.0f} | {mean['all_student_tokens']:,.0f} | "
            f"{mean['problems']:,.0f} | {mean['rationale_tokens']:.1f} | {percentage(mean['kept'])} % |"
        )


def insert(page: str, results: Figures) -> str:
    """A page with the tables between its two marks. Raises ValueError where a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} and {END}")
    return f"{before}{begin}\n{to_markdown(results)}{end}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables of a results.json, or puts them between the marks of a page that is given, too; returns the exit code."""
    given = [Path(name) for name in (sys.argv[1:] if argv is None else argv)]
    return guard(lambda: _write(given))


def _write(given: list[Path]) -> int:
    if not given:
        raise ConfigError(
            "no file is named", hint="python -P -m undo_hpc.campaign.markdown results.json [PAGE.md]"
        )
    results = json_object(given[0])
    try:
        pages = [(page, insert(page.read_text(encoding="utf-8"), results)) for page in given[1:]]
        text = "" if pages else to_markdown(results)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"{' or '.join(map(str, given))} is not what is expected: {type(error).__name__}: {error}",
            hint="the first file is a campaign's results.json; a page has the two marks",
        ) from error
    for page, filled in pages:
        write_text(page, filled)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
