"""The jinja2 templates of pages and cards, which lie beside the code that gathers their data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from undo_hpc.system.wording import printable

if TYPE_CHECKING:
    from huggingface_hub import CardData

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def render(template: Path, beside: Sequence[Path] = (), /, **values: object) -> str:
    """The filled template. In `*.html.jinja` every value is escaped unless it is marked as HTML; in others no value can begin a tag
    of HTML or a picture. The filter `cell` makes a text fit into a cell of a Markdown table.

    Args:
        beside: further folders of templates that it includes.

    Raises:
        jinja2.UndefinedError: the template uses a value that is not given (a bug: nothing is left out silently).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, *beside]),
        autoescape=template.name.endswith(".html.jinja"),
        finalize=_shown if template.name.endswith(".html.jinja") else _without_tags,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: " ".join(str(text).split()).replace("|", "\\|")
    return environment.get_template(template.name).render(values)


def _shown(value: object) -> object:
    """A value for a page, before it is escaped: a page may be read in a terminal, too."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _without_tags(value: object) -> object:
    """A value for Markdown, whose viewers may take HTML in it for HTML, and fetch its pictures."""
    return _TAG.sub("&lt;", printable(value)).replace("![", "!\\[") if isinstance(value, str) else value


def render_card(template: Path, metadata: CardData, **values: object) -> str:
    """A README.md for the Hub: its YAML head, as huggingface_hub writes it, and the filled template."""
    return f"---\n{metadata.to_yaml()}\n---\n\n{render(template, **values)}"
