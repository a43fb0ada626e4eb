"""A title, a name or an answer of somebody else is shown; the terminal does not act on it."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from undo_hpc.cli import main
from undo_hpc.system.console import SafeConsole

HOSTILE = "a\x1b]52;c;AAAA\x07b\x1b[2Jc\u202ed\x9be"


@pytest.mark.parametrize("terminal", [True, False])
def test_texts_are_shown_as_escapes_and_colours_stay(terminal: bool) -> None:
    console = SafeConsole(
        file=io.StringIO(), force_terminal=terminal, color_system="standard" if terminal else None, width=200
    )
    table = Table(title=HOSTILE)
    table.add_column("x")
    table.add_row(HOSTILE, style="red")
    console.print(HOSTILE, style="bold", highlight=False)
    console.print(table)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert not {"\x07", "\u202e", "\x9b"} & set(said) and "\x1b]" not in said and "\x1b[2J" not in said
    assert said.count(r"\x1b]52;c;AAAA") >= 2 and ("\x1b[1m" in said) is terminal


def test_a_text_is_no_language_of_richs_own() -> None:
    """A folder may be called so: it was shown as another, or ended the command with an error in its markup."""
    text = "[/old] [red]x[/red] run[1] :100: \\[b]"
    console = SafeConsole(file=io.StringIO(), width=200)
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    console.print(text)
    console.print(table)
    console.rule(text)
    assert console.file.getvalue().count(text) == 5  # type: ignore[attr-defined]


def test_what_rich_tells_the_terminal_stays() -> None:
    console = SafeConsole(file=io.StringIO(), force_terminal=True)
    console.clear()
    assert "\x1b[2J" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_verbs_use_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[type[Console]] = []
    monkeypatch.setattr(
        "undo_hpc.cli.verbs.list.run", lambda arguments, console: seen.append(type(console)) or 0
    )
    assert main(["list", "."]) == 0 and seen == [SafeConsole]
    assert main([HOSTILE]) == 2 and "\x1b" not in capsys.readouterr().err
