"""What an iteration has brought, in a line, and what a person should look at: PURE, from its metrics alone."""

from __future__ import annotations

from typing import Any

from undo_hpc.method.metrics import rows_learned, share
from undo_hpc.observe.wording import accuracy, learned
from undo_hpc.system.wording import counted

_FEW_RATIONALES = 0.2  # of the problems that the teacher was asked for
_MANY_CUT_OFF = 0.1  # of the student's answers to a set
_MANY_UNBOXED = 0.1  # of its right answers
_MANY_ERRORS = 0.01  # of the requests


def outcome(metrics: dict[str, Any]) -> str:
    """An iteration's result: validation beside the untrained student's, what the student learned from, what follows."""
    made, decision = metrics["generate"], metrics["decision"]
    parts = []
    if here := metrics["sets"].get("validation"):
        parts.append(f"validation {accuracy(here)}")
        if before := (metrics.get("baseline") or {}).get("validation"):
            parts[-1] += f", untrained {accuracy(before)}"
    for name, item in (metrics.get("baseline") or {}).items() if metrics.get("until") else ():
        parts.append(f"{name} {accuracy(item)}")
    if made["rows"]:
        parts.append(f"{made['correct']:,} of {made['rows']:,} attempts right")
    if metrics["distilled"]["rows"]:
        what = learned(metrics.get("train", {}), metrics["distilled"])
        parts.append(
            what
            if metrics.get("train") or not metrics.get("until")
            else f"{counted(metrics['distilled']['rows'], 'row')} kept"
        )
    parts.append("continues" if decision["action"] == "continue" else decision["action"])
    return f"iteration {metrics['iteration']} is done: {'; '.join(parts)}"


def warnings_of(metrics: dict[str, Any]) -> list[str]:
    """Reasons to doubt an iteration before the next one costs as much; most often there are none."""
    found, made, kept = [], metrics["generate"], metrics["distilled"]
    if kept["rows"] and kept["refreshed"] < _FEW_RATIONALES * made["problems"]:
        dropped = ", ".join(
            f"{number:,} {reason.replace('_', ' ')}" for reason, number in kept["dropped"].items()
        )
        found.append(
            f"the teacher gave rationales to learn from for only {kept['refreshed']:,} of {counted(made['problems'], 'problem')} "
            f"(attempts left out: {dropped}): read some in the report; a stronger teacher, generate.max_attempts or generate.sampling.max_new_tokens may help"
        )
    number, given = rows_learned(metrics.get("train", {}), kept)
    if number < given:
        found.append(
            f"{learned(metrics['train'], kept)}: train.max_length, train.too_long, student.reasoning and the number of steps decide what is left out"
        )
    if made.get("checkers"):
        found.append(
            f"the teacher's attempts were judged by {' and '.join(made['checkers'])}, the student's answers by {metrics['checker']}: "
            "undo-hpc regrade tells what differs, and with --apply grades all by one"
        )
    if made["errors"] > _MANY_ERRORS * made["rows"]:
        found.append(f"{made['errors']:,} of {made['rows']:,} requests to the teacher failed{_because(made)}")
    here, before = metrics["sets"].get("validation"), (metrics.get("baseline") or {}).get("validation")
    if here and before and here["high"] < before["accuracy"]:
        found.append(
            f"training made the student worse: {accuracy(here)} on validation, untrained {accuracy(before)}: fewer train.epochs or a lower "
            "train.learning_rate may help"
        )
    answered = metrics["sets"] or (metrics.get("baseline") or {})  # of a model that was only evaluated
    if unboxed := _over(answered, "right_unboxed", _MANY_UNBOXED, of="correct"):
        found.append(f"right answers of the student without a box, which count as right: {unboxed}")
    if number := made.get("judged", 0):
        found.append(
            f"verdicts of the teacher's attempts that the judge gave, not the checker: {number:,} of {made['rows']:,}"
        )
    if judged := _over(answered, "judged", 0.0):
        found.append(f"verdicts that the judge gave, not the checker: {judged}")
    if cut := _over(answered, "truncated", _MANY_CUT_OFF):
        found.append(
            f"answers of the student were cut off: {cut}: does it not end them, or is evaluate.sampling.max_new_tokens too small?"
        )
    if failed := _over(answered, "errors", _MANY_ERRORS):
        said = next((words for a in answered.values() if (words := _because(a))), "")
        found.append(f"requests to the student failed: {failed}{said}")
    return found


def _over(sets: dict[str, Any], what: str, most: float, of: str = "answers") -> str:
    return ", ".join(
        f"{name} {a[what]:,} of {a[of]:,}"
        for name, a in sets.items()
        if share(a.get(what, 0), a.get(of, 0)) > most
    )


def _because(counts: dict[str, Any]) -> str:
    return f", for example: {counts['error']}" if counts.get("error") else ""
