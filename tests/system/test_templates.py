"""Templates of pages and cards: strict about what they are given, escaped where they are HTML, whole in a table's cell."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from huggingface_hub import DatasetCardData, ModelCard

from undo_hpc.system.templates import render, render_card


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_html_is_escaped_and_markdown_is_not(tmp_path: Path) -> None:
    text = "a{% if x %}\n{% endif %}={{ x }}\n"
    assert render(write(tmp_path, "a.html.jinja", text), x="<b>{{ y }}") == "a=&lt;b&gt;{{ y }}\n"
    assert render(write(tmp_path, "a.md.jinja", text), x="*b* & {{ y }}") == "a=*b* & {{ y }}\n"


def test_what_is_not_given_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'x' is undefined"):
        render(write(tmp_path, "a.md.jinja", "{{ x }}"), y=1)


def test_a_text_stays_in_its_cell(tmp_path: Path) -> None:
    assert render(write(tmp_path, "a.md.jinja", "| {{ x | cell }} |"), x="a | b\nc") == "| a \\| b c |"


def test_a_card_has_the_head_that_the_hub_reads(tmp_path: Path) -> None:
    metadata = DatasetCardData(license="mit", pretty_name="a: 'b' #c", tags=["x"])
    card = ModelCard(
        render_card(write(tmp_path, "a.md.jinja", "# {{ title }}\n---\nend\n"), metadata, title="T")
    )
    assert card.data.to_dict() == {"license": "mit", "pretty_name": "a: 'b' #c", "tags": ["x"]}
    assert card.text == "\n# T\n---\nend\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("a < b, 3<4", "a < b, 3<4"),
        ("![x](http://a.example/p.png) 3![1]", "!\\[x](http://a.example/p.png) 3!\\[1]"),
        ("red\x1b[31m \x1b]52;c;eA==\x07", "red \\x1b]52;c;eA==\\x07"),
    ],
)
def test_no_value_begins_a_tag_or_a_picture_or_acts_on_a_terminal_in_markdown(
    tmp_path: Path, value: str, shown: str
) -> None:
    (tmp_path / "page.md.jinja").write_text("{{ value }} {{ number }}")
    assert render(tmp_path / "page.md.jinja", value=value, number=3) == f"{shown} 3"


def test_no_value_acts_on_a_terminal_in_a_page(tmp_path: Path) -> None:
    from markupsafe import Markup

    text = render(
        write(tmp_path, "a.html.jinja", "{{ x }} {{ y }}"), x="<i>\x1b]52;c;eA==\x07", y=Markup("<b>")
    )
    assert text == "&lt;i&gt;\\x1b]52;c;eA==\\x07 <b>"
