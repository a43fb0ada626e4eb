"""PURE: the browser of examples as HTML. Whatever a model wrote is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from undo_hpc.observe.report.examples import OUTCOMES, Example, mark_differences, shorten
from undo_hpc.observe.report.parts import section
from undo_hpc.records import Feedback

KIND_NAMES = {
    "arithmetic": "a false equation",
    "setup": "true equations, wrong plan",
    "truncated": "cut off",
    "format": "right value, wrong form",
    "no_answer": "no answer",
}
OUTCOME_NAMES = {"fixed": "Fixed", "broken": "Broken", "wrong": "Still wrong"}


def browser(examples: Sequence[Example]) -> str:
    """The section with all examples; a script of the page filters them, and without it all are shown."""
    if not examples:
        return ""
    counts = {name: sum(e.outcome == name for e in examples) for name in OUTCOMES}
    buttons = [
        f'<button type="button" data-outcome="" aria-pressed="true">All<span>{len(examples)}</span></button>'
    ]
    buttons += [
        f'<button type="button" data-outcome="{name}" aria-pressed="false">{OUTCOME_NAMES[name]}<span>{counts[name]}</span></button>'
        for name in OUTCOMES
        if counts[name]
    ]
    pairs = list(dict.fromkeys((e.before, e.after) for e in examples))
    select = ""
    if len(pairs) > 1:
        options = "".join(f'<option value="{a}-{b}">iteration {a} to {b}</option>' for a, b in pairs)
        select = f'<select id="pair" aria-label="iterations"><option value="">all iterations</option>{options}</select>'
    intro = (
        "A problem, the rationale that the student learned from and the one that the teacher wrote next, and what the student made of each. "
        "Marked: <del>taken out</del> and <ins>put in</ins>."
    )
    tools = (
        f'<div class="tools" id="tools" hidden>{"".join(buttons)}{select}'
        '<input id="find" type="search" placeholder="Find in the examples" aria-label="find in the examples"></div>'
    )
    body = (
        f'{tools}<div id="examples">{"".join(_example(e) for e in examples)}</div><p id="count" class="intro" role="status"></p>'
        '<button type="button" class="more" id="more" hidden>Show more</button>'
    )
    return section("browse", "Examples", intro, body, "long")


def _example(example: Example) -> str:
    old, new = example.old, example.new
    pair = f"{example.before}-{example.after}"
    kind = KIND_NAMES.get(old.error_kind if old.error_kind else (new.error_kind if new else ""), "")
    name = OUTCOME_NAMES[example.outcome] if new else "Wrong"
    meta = f'<span class="state {example.outcome}">{name}</span><span>{escape(old.split)} problem {old.idx}</span>'
    meta += f"<span>{escape(kind)}</span>" if kind else ""
    head = (
        f'<header><div class="meta">{meta}</div><div class="problem">{escape(shorten(old.problem))}</div>'
        f'<div class="truth">Ground truth <b>{escape(shorten(old.ground_truth, 200))}</b></div></header>'
    )
    if new is None:
        body = _side(
            f"Rationale of iteration {example.before}", escape(shorten(old.rationale)), ""
        ) + _answer(old, example.before)
    else:
        left, right = escape(shorten(old.rationale)), escape(shorten(new.rationale))
        changed = old.rationale != new.rationale
        if changed and old.rationale and new.rationale:
            left, right = mark_differences(shorten(old.rationale), shorten(new.rationale))
        same = "" if changed or not old.rationale else "unchanged"
        body = _side(f"Rationale of iteration {example.before}", left, "") + _side(
            f"Rationale of iteration {example.after}", right, same
        )
        body = f'<div class="pair">{body}</div><div class="pair">{_answer(old, example.before)}{_answer(new, example.after or 0)}</div>'
    if new is None:
        body = f'<div class="pair">{body}</div>'
    return f'<article class="example" data-is="{example.outcome}" data-pair="{pair}">{head}{body}</article>\n'


def _side(title: str, html: str, note: str) -> str:
    text = f"<pre>{html}</pre>" if html.strip() else '<p class="none">none was kept</p>'
    return f"<div><h4>{escape(title)}{f' <span>{note}</span>' if note else ''}</h4>{text}</div>"


def _answer(row: Feedback, iteration: int) -> str:
    right = row.verdict == "correct"
    word = "right" if right else row.verdict.replace("_", " ")
    score = f", {100 * row.score:.0f} % of its answers" if row.unstable else ""
    text = (
        f"<pre>{escape(shorten(row.student_answer))}</pre>"
        if row.student_answer.strip()
        else '<p class="none">an empty answer</p>'
    )
    return f'<div><h4>Student of iteration {iteration} <span class="{"ok" if right else "no"}">{"✓" if right else "✗"} {word}{score}</span></h4>{text}</div>'
