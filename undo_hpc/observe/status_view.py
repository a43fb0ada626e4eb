"""The status as people see it: a table on a wide terminal, lines on a narrow one, no colour where there is none."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from undo_hpc.observe.stage_view import StageView
from undo_hpc.observe.status import RunView
from undo_hpc.observe.wording import NONE_BEATS_UNTRAINED, accuracy, percent
from undo_hpc.system.invocation import cli_hint, display_path
from undo_hpc.system.wording import format_duration

WIDE = 90
_STYLE = {
    "done": "green",
    "pruned": "yellow",
    "running": "cyan",
    "failed": "bold red",
    "waiting": "yellow",
    "saved": "yellow",
    "stale": "magenta",
}
_MARK = {
    "done": "✓",
    "running": "▸",
    "failed": "✗",
    "waiting": "…",
    "saved": "…",
    "stale": "~",
    "ready": "·",
    "blocked": "·",
}


def _whole(text: str, style: str = "") -> Text:
    """A command or a path: never broken by us, for it is there to be copied (print it with crop=False)."""
    return Text(text, style, no_wrap=True, overflow="ignore")


def render_status(view: RunView, width: int, *, watching: bool = False) -> RenderableType:
    """The whole view.

    Args:
        watching: it is drawn again and again: that command is not advised then.
    """
    head = Text.assemble((view.name, "bold"), f"  {view.headline}")
    last = max(view.iterations - 1, view.iteration)
    of = f"of 0 to {last}" if last else "the only one"
    parts: list[RenderableType] = [head]
    if view.whole:
        parts.append(Text(view.whole))
    else:
        parts.append(Text(f"iteration {view.iteration} ({of})"))
    parts.append(Text(f"{view.condition}, {view.cluster}", "dim"))
    parts.append(_whole(view.root, "dim"))
    if view.launcher:
        parts.append(Text(f"held by {view.launcher}", "dim"))
    parts.append(Text())
    parts.append(_table(view.stages) if width >= WIDE else _lines(view.stages))
    for failure in view.failures:
        title = f"{failure.stage} {failure.label}" if failure.label != failure.stage else failure.stage
        parts += [Text(), Text(f"{title} {failure.why}", "bold red")]
        parts += [Text(f"  | {line}", overflow="fold") for line in failure.lines]
        parts.append(_whole(f"  {failure.log}" if failure.log else "  it left no log", "dim"))
        which = f" {failure.index}" if failure.label != failure.stage else ""
        look = cli_hint(f"logs {display_path(Path(view.root))} {failure.stage}{which}")
        parts += [_whole(f"  {look}", "dim")] * bool(failure.log)
    if any("accuracy" in item for item in view.accuracy):
        parts += [Text(), _accuracy(view)]
        if view.beats_untrained is False:
            parts.append(Text(f"            {NONE_BEATS_UNTRAINED}", "yellow"))
        parts.append(Text(f"            {view.evaluation}", "dim"))
    if view.disk:
        parts.append(Text.assemble(("disk        ", "bold"), view.disk))
    if view.report:
        parts.append(_whole(f"report      {view.report}"))
    parts += [Text(f"note: {note}", "yellow") for note in view.notes]
    if not (watching and view.next_command.endswith(" --watch")):
        parts += [
            Text(),
            _whole(f"next  {view.next_command}", "bold cyan"),
            Text(f"      {view.next_why}", "dim"),
        ]
    return Group(*parts)


def status_mark(stage: StageView) -> str:
    """The one state that says most of a stage."""
    for state in ("failed", "running", "stale", "waiting", "saved", "ready", "blocked"):
        if stage.states.get(state):
            return state
    return "done"


def figures(stage: StageView) -> str:
    """Rows, speed, yield, loss, time left: what is known, in words."""
    parts = [stage.progress] if stage.progress else []
    if stage.rows and stage.right is not None:
        parts.append(f"{stage.rows:,} {'attempts' if stage.name == 'generate' else 'answers'}")
        parts.append(f"{percent(stage.right, stage.rows)} right")
    elif stage.rows:
        what = {"merge": "rows kept", "score": "texts scored", "likelihood": "texts scored"}
        parts.append(f"{stage.rows:,} {what.get(stage.name, 'rows')}")
    if stage.learned:
        parts.append(stage.learned)
    each = " a task" * (stage.total > 1 and not stage.states.get("running"))  # running tasks tell their sum
    speeds = [f"{stage.rows_per_s:,.1f}/s"] if stage.rows_per_s else []
    speeds += [f"{stage.tokens_per_s:,.0f} tok/s"] if stage.tokens_per_s else []
    if speeds:
        parts.append(", ".join(speeds) + each)
    if stage.loss is not None:
        parts.append(f"loss {stage.loss:.3f}")
    if stage.restarts:
        parts.append(f"{stage.restarts} restart{'s' if stage.restarts > 1 else ''}")
    if stage.left_s:
        parts.append(f"{format_duration(stage.left_s)} left")
    elif stage.seconds and stage.done == stage.total:
        parts.append(f"took {format_duration(stage.seconds)}")
    return ", ".join(parts)


def _states(stage: StageView) -> Text:
    text = Text()
    for state, count in stage.states.items():
        if text:
            text.append("  ")
        text.append(f"{count} {state}", _STYLE.get(state, "dim"))
    return text


def _table(stages: list[StageView]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading, justify in (
        ("", "left"),
        ("stage", "left"),
        ("tasks", "right"),
        ("state", "left"),
        ("so far", "left"),
        ("why", "left"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for stage in stages:
        mark = status_mark(stage)
        table.add_row(Text(_MARK[mark], _STYLE.get(mark, "dim")), stage.name, f"{stage.done}/{stage.total}", _states(stage), figures(stage),
                      Text(stage.waits_for, "dim"))  # fmt: skip
    return table


def _lines(stages: list[StageView]) -> Group:
    parts: list[RenderableType] = []
    for stage in stages:
        mark = status_mark(stage)
        parts.append(
            Text.assemble(
                (_MARK[mark] + " ", _STYLE.get(mark, "dim")),
                (stage.name, "bold"),
                f" {stage.done}/{stage.total}  ",
                _states(stage),
            )
        )
        for extra in (figures(stage), stage.waits_for):
            if extra:
                parts.append(Text(f"    {extra}", "dim", overflow="fold"))
    return Group(*parts)


def _accuracy(view: RunView) -> Text:
    """Validation of the untrained student and of each iteration, a line each (a line that wraps would tear a figure from its
    interval); the best is marked where it beats the untrained one."""
    text = Text("validation  ", "bold")
    shown = [("untrained", view.untrained, False)] if view.untrained else []
    good = view.beats_untrained is not False
    known = [h for h in view.accuracy if "accuracy" in h]
    best = max(known, key=lambda h: h["accuracy"], default=None)  # of equals the first, as the decision
    shown += [(str(h["iteration"]), h, good and h is best) for h in known]
    for number, (name, item, marked) in enumerate(shown):
        text.append(f"\n{'':12}{name}: " if number else f"{name}: ", "dim")
        text.append(accuracy(item), "bold green" if marked else "")
    return text


def plain_console(console: Console) -> bool:
    """Whether the output cannot be drawn over (a file, a pipe, a dumb terminal)."""
    return not console.is_terminal or console.is_dumb_terminal
