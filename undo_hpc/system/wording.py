"""Numbers as people read them, and foreign texts as a terminal may show them."""

from __future__ import annotations

import html
import re

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Control characters (C0 and C1 without tab and newline), and those that turn the direction of what follows.
_ACTED_ON = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """A text of a server, a model or a log in which nothing is left that a terminal would act on: it is shown as an escape, such as
    `\\x1b`. Colours are left out, and a carriage return is a new line.
    """
    text = _COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _ACTED_ON.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def escaped(text: str) -> str:
    """The same for the text or an attribute of HTML and SVG."""
    return html.escape(printable(text))


def printable_json(text: str) -> str:
    """The same of a JSON text, which still says the same: what JSON itself leaves raw is written as `\\u009b`."""
    return _ACTED_ON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def counted(number: int, noun: str) -> str:
    """A number with its noun: '1 task', '1,200 tasks'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percentage(share: float, digits: int = 0) -> str:
    """A share in per cent, without the sign: '12.5'. Only none is '0', and only all is '100': what lies below or above is '<1', '>99.9'."""
    least = 10.0**-digits
    text = f"{100 * share:.{digits}f}"
    if 0 < share < 1 and float(text) in (0.0, 100.0):
        return f"<{least:g}" if share < 0.5 else f">{100 - least:g}"
    return text


def points(difference: float) -> str:
    """A difference of shares in points, with its sign; '0.0' where it is too small to have one."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\u2212")


def three_digits(value: float) -> str:
    """A figure with three digits that say something, all before the point kept: '0.378', '12.3', '12,345'."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_bytes(number: float) -> str:
    """Bytes in binary units: '517 MiB', '1.2 GiB'."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit != "GiB" else f"{number:,.1f} GiB"
        number /= 1024
    return f"{number:,.1f} TiB"


def format_duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss; none where a clock was set back."""
    whole = max(0, int(seconds + 0.5))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
