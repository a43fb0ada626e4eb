"""The table of families in the documentation says what training learns."""

from __future__ import annotations

from tests.conftest import REPO
from tests.training.chat_families import FAMILIES, Family, make_tokenizer
from undo_hpc.chat.template import ChatTemplate
from undo_hpc.chat.training_text import NotLearned, TurnWriter


def learned(family: Family, rationale: str) -> str:
    """The text under the loss, up to the end of turn, or why the row is left out; and who wrote it."""
    source = make_tokenizer(family).chat_template
    special = {"eos_token": family.eos, "bos_token": family.bos or ""}
    template = ChatTemplate(source, special, family.template_kwargs, "2026-02-03")
    writer = TurnWriter(template.render, source=source, eos_token=family.eos)
    try:
        turn = writer.write("Q", rationale)
    except NotLearned:
        return "left out"
    text = turn.target.removesuffix(writer.closing).replace("\n", "⏎").replace("|", "\\|")
    return f"`{text}`" + (" (written by training)" if turn.composed else "")


def table() -> str:
    lines = ["| family | its template | an answer A | reasoning R and answer A |", "|---|---|---|---|"]
    for name, family in FAMILIES.items():
        cells = name, family.note, learned(family, "A"), learned(family, "<think>\nR\n</think>\n\nA")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_table_of_families_is_true() -> None:
    assert table() in (REPO / "docs" / "reasoning.md").read_text()
