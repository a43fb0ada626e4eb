"""LaTeX in a text as MathML, which browsers draw by themselves; what cannot be converted stays as it is.

The converter is loaded where a text has mathematics in it. What it returns is built again from known elements, without attributes that
could hold an address, a script or a style: the texts come from models.
"""

from __future__ import annotations

import re
from functools import lru_cache
from html import unescape
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from undo_hpc.system.wording import escaped

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MOST_CHARS = 600  # of one formula
_PLACES = re.compile(
    r"\$\$(?P<a>.+?)\$\$|\\\[(?P<b>.+?)\\\]|\\\((?P<c>.+?)\\\)|(?<![\\$\w])\$(?P<d>[^$\n]+?)(?<!\s)\$(?![\d$])"
    r"|(?P<e>\\boxed\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})",
    re.DOTALL,
)
_NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
_ELEMENTS = frozenset(re.findall(r"\w+", """
    math mrow mi mn mo mtext mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mtable mtr mtd menclose mstyle
    mpadded mphantom mfenced mmultiscripts mprescripts none"""))  # fmt: skip
_ATTRIBUTES = frozenset(re.findall(r"\w+", """
    display displaystyle scriptlevel mathvariant stretchy fence separator form movablelimits linethickness notation columnalign
    rowspacing columnspacing columnlines rowlines width height depth lspace rspace accent accentunder largeop symmetric minsize
    maxsize open close"""))  # fmt: skip
_VALUE = re.compile(r"[-\w .%#()\[\]{}|/+,]*")


def set_mathematics(text: str) -> Markup:
    """A text as HTML, escaped, with its formulas as MathML."""
    parts, end = [], 0
    for found in _PLACES.finditer(text):
        block, tex = found["a"] or found["b"], found["c"] or found["d"] or found["e"]
        made = _mathml(block or tex, "block" if block else "inline")
        if made:
            parts += [escape(text[end : found.start()]), made]
            end = found.end()
    return Markup("").join([*parts, escape(text[end:])])


@lru_cache(maxsize=4096)
def _mathml(tex: str, display: str) -> Markup:
    """One formula; empty where it cannot be converted."""
    if len(tex) > _MOST_CHARS or not tex.strip():
        return Markup("")
    try:
        from latex2mathml.converter import convert_to_element

        return Markup(_safe(convert_to_element(tex, display=display)))  # noqa: S704 -- built from known elements below
    except Exception:  # noqa: BLE001 -- the converter's errors share no base; the text is shown as it is
        return Markup("")


def _safe(element: Element) -> str:
    """An element with its known attributes, and all that is in it. Raises ValueError for one that is not known."""
    name = element.tag.removeprefix(_NAMESPACE)
    if name not in _ELEMENTS:
        raise ValueError(name)
    if "\\" in (element.text or ""):
        raise ValueError(element.text)  # a command that the converter does not know
    given = "".join(
        f' {key}="{escape(value)}"'
        for key, value in element.attrib.items()
        if key in _ATTRIBUTES and _VALUE.fullmatch(value)
    )
    inner = escaped(unescape(element.text or "")) + "".join(
        _safe(child) + escaped(child.tail or "") for child in element
    )
    return f"<{name}{given}>{inner}</{name}>"
