r"""From the text of an answer, LaTeX and ASCII mixed, to tokens. The only place that looks at characters.

A token is (kind, text, space before it). Kinds: `num`, `sym` (one letter of mathematics), `cmd` (a command or function), `word` (from a
text command, or a run of letters that is no product), `op`, `row` (a new line in a matrix), `begin` and `end` (of a matrix).
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from undo_hpc.grading import names, units
from undo_hpc.grading.names import word_set
from undo_hpc.grading.scan import closing_brace

Token = tuple[str, str, bool]
MAX_TOKENS = 3000

_REPEATING = re.compile(  # 0.\overline{3}, 0.\dot1\dot8, 0.(3), 0.333...
    r"(?P<head>\d*\.\d*)(?:\\(?:overline|bar)\s*\{?\s*(?P<bar>\d{1,30})\s*\}?"
    r"|\\dot\s*\{?(?P<first>\d)\}?(?:\s*(?P<middle>\d{0,30})\s*\\dot\s*\{?(?P<last>\d)\}?)?"
    r"|\((?P<round>\d{1,30})\)(?=\s*(?:$|[,;=%\\])))"
    r"|(?P<dotted>\d{0,9}\.\d{0,9}?)(?:(?P<cycle>\d)(?P=cycle){2,9}|(?P<cycles>\d{2,6}?)(?P=cycles){1,9})\s*(?:\\ldots|\\dots|\.\.\.)"
)
_TOKEN = re.compile(
    r"(?P<num>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,4}(?![\d.]))?|\.\d+)"
    r"|\\(?P<cmd>[a-zA-Z]+)\*?|(?P<row>\\\\(?:\[[^\]]{0,9}\])?)|\\(?P<esc>.)|(?P<dots>\.\.\.+)"
    r"|(?P<time>(?<![A-Za-z])[apAP]\.?\s?[mM]\b\.?)"
    r"|(?P<name>[^\W\d_]+(?:(?<=[a-z])[-'](?=[a-z]{2})[a-z]+)*)|(?P<sign>\*\*|<=|>=|=<|=>|->|!=|==|<>|&)"
    r"|(?P<op>[-+*/^_!|()\[\]{},;:'\"°%<>=$€£¥₹?~])|(?P<space>\s+)",
    re.DOTALL,
)
_SIGNS = {
    "**": "^",
    "<=": "le",
    ">=": "ge",
    "=<": "le",
    "!=": "ne",
    "<>": "ne",
    "==": "=",
    "=>": "to",
    "->": "to",
    "&": "&",
}
_ESCAPED = {"{": "\\{", "}": "\\}", "|": "|", "%": "%", "$": "$", "&": "and", "#": "#", "_": "_"}
_DOUBLED = re.compile(
    r"\\\\(?=(?:[dt]?frac|sqrt|left|right|pi|text|cdot|times|in|cup|cap|infty|le|ge|boxed|pm|circ|begin|end|mathrm)\b)"
)
_GLUED = re.compile(r"\\(q?quad)(?=[a-zA-Z])")
_THOUSANDS = re.compile(
    r"(?<=\d)\s*(?:\{\s*,\s*\}|\\,|,\\!|\\!,\\!|\{\\,\})\s*(?=\d{3}(?!\d))|(?<=\d)'(?=\d{3}(?!\d))"
)
_SPACED = re.compile(r"(?<![\d.,/])\d{1,3}(?: \d{3})+(?![\d/])")
_EUROPEAN = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.,])")
_DELIMITERS = re.compile(
    r"\\(?:left|right)\s*\.|\\[()\[\]!/]|\\(?:phantom|hspace|vspace|label|tag)\*?\{[^{}]{0,80}\}"
)
_UNIT_BEHIND = re.compile(r"[^\\$]\$\s*([A-Za-z]{1,12})\s*\.?$")
_BRACED = re.compile(r"\{\s*([:=,;])\s*\}")
_ENVIRONMENT = re.compile(r"\s*\{\s*([a-zA-Z]+)\*?\s*\}(?:\s*\{[lcr| ]{1,40}\})?")
_MATRICES = word_set("matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix array cases")
_LETTERS = re.compile(r"[^\W\d_]+")
_ABBREVIATED = re.compile(
    r"\b(sq|cu|ft|in|hr|hrs|min|sec|yd|oz|lb|lbs|Rs|approx|Dr|Mr|St|No)\.(?=\s|$|\^|\})"
)


class SyntaxProblem(ValueError):
    """The text is nothing that this grammar knows."""


class Wordy(SyntaxProblem):
    """The answer is words, or a statement that words change."""


def prepare(text: str) -> str:
    """The text without maths delimiters, separators of thousands and the punctuation around an answer."""
    if "$" in text and (behind := _UNIT_BEHIND.search(text)) and units.known(behind[1]):
        text = f"{text[: behind.start(1)]}\\text{{{behind[1]}}}"
    if "\\" in text:
        if "\\\\" in text and "\\begin" not in text:
            text = _DOUBLED.sub(r"\\", text)
        text = _BRACED.sub(r"\1", _DELIMITERS.sub(" ", _GLUED.sub(r"\\\1 ", _THOUSANDS.sub("", text))))
        text = (
            text.replace("{ }^", "^")
            .replace("{}^", "^")
            .replace(r"\$", "\x01")
            .replace("$", " ")
            .replace("\x01", "$")
        )
    elif "$" in text or "'" in text or "{" in text:
        text = _undollar(_THOUSANDS.sub("", text))
    text = _SPACED.sub(lambda m: m[0].replace(" ", ""), text)
    if text.count(".") > 1:
        text = _ABBREVIATED.sub(r"\1", _EUROPEAN.sub(lambda m: m[0].replace(".", ""), text))
    elif text.endswith("."):
        text = _ABBREVIATED.sub(r"\1", text)
    text = text.strip().lstrip(" ,;:*`").rstrip(" \t\n,;:*`")
    text = text[1:-1] if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" else text
    while text.endswith((".", "\\")) and not text.endswith("..."):
        text = text[:-1].rstrip(" \t\n,;:*")
    return text.lstrip("=").strip() if text[:1] == "=" and text.count("=") == 1 else text


def _undollar(text: str) -> str:
    """Takes maths delimiters away and leaves a currency sign: `$5$` against `$5`."""
    count = text.count("$")
    if count <= 1:
        return text
    return re.sub(r"\$\$?", " ", text) if count % 2 == 0 else re.sub(r"\$(?!\s*\d)", " ", text)


def tokenize(text: str) -> list[Token]:
    """Tokens of a prepared text. Raises SyntaxProblem at a character that has no place in an answer."""
    out: list[Token] = []
    _scan(text, out, False, 0)
    return out


def _scan(text: str, out: list[Token], words: bool, depth: int) -> None:
    """Appends the tokens of `text`; `words`: it stands in a text command, where letters are words."""
    if depth > 20:
        raise SyntaxProblem("text commands nested too deep")
    at, space = 0, False
    repeating = {m.start(): m for m in _REPEATING.finditer(text)} if "." in text else {}
    while at < len(text):
        if len(out) > MAX_TOKENS:
            raise SyntaxProblem("too many tokens")
        if at in repeating and not (repeating[at]["round"] and out and out[-1][1] not in ",;=-"):
            out.append(("num", str(_repeating(repeating[at])), space))
            at, space = repeating[at].end(), False
            continue
        match = _TOKEN.match(text, at)
        if not match:
            if text[at] in ".#&@\\" and (words or not text[at + 1 : at + 2].isdigit()):
                at, space = at + 1, True
                continue
            raise SyntaxProblem(f"character {text[at]!r}")
        kind, value, start = match.lastgroup or "", match.group(match.lastgroup or 0), at
        at = match.end()
        if kind == "space" or value == "~":
            space = True
            continue
        if kind == "cmd":
            at = _command(text, at, value, out, space, words, depth)
        elif kind == "name":
            if words:
                out.append(
                    ("op", value.lower(), space)
                    if value.lower() in names.CONNECTORS
                    else ("word", value, space)
                )
            else:
                _letters(value, text, start, at, out, space)
        elif kind == "esc":
            if value in _ESCAPED:
                out.append(("op", _ESCAPED[value], space))
            space = True
            continue
        else:
            if kind == "time":
                kind, value = "word", value.lower().replace(".", "").replace(" ", "")
            elif kind == "sign":
                if value == "&" and not any(token[0] == "begin" for token in out):
                    continue
                kind, value = "op", _SIGNS[value]
            elif kind == "dots":
                kind, value = "cmd", "ldots"
            out.append((kind, value, space))
        space = False


def _repeating(match: re.Match[str]) -> Fraction:
    """The exact value of a repeating decimal."""
    head = match["head"] if match["dotted"] is None else match["dotted"]
    dots = (match["first"] or "") + (match["middle"] or "") + (match["last"] or "")
    cycle = match["bar"] or match["round"] or match["cycle"] or match["cycles"] or dots
    whole, _, digits = head.partition(".")
    scale = 10 ** len(digits)
    return Fraction(int((whole or "0") + digits), scale) + Fraction(
        int(cycle), (10 ** len(cycle) - 1) * scale
    )


def _command(text: str, at: int, name: str, out: list[Token], space: bool, words: bool, depth: int) -> int:
    r"""Appends the tokens of the command `\name` that ends at `at`; returns where to go on."""
    if name in names.TEXT_COMMANDS:
        start = at + len(text[at:]) - len(text[at:].lstrip())
        if text[start : start + 1] != "{":
            return at
        end = closing_brace(text, start)
        if end < 0:
            raise SyntaxProblem("a text command that is never closed")
        _text(text[start + 1 : end], name, out, space, depth)
        return end + 1
    if name in ("begin", "end"):
        match = _ENVIRONMENT.match(text, at)
        if not match:
            raise SyntaxProblem("an environment without a name")
        if match[1] in _MATRICES:
            out.append((name, match[1], space))
        return match.end()
    if name == "not":
        out.append(("cmd", "not", space))
        return at
    if name in names.DROPPED:
        return at
    name = names.RENAMED.get(name, name)
    if name == "Omega" and out and out[-1][0] == "num":
        out.append(("word", "Ω", space))
    elif name == "quad":
        out.append(("op", "quad", True))
    elif name in ("e", "i"):
        out.append(("sym", name, space))
    elif name in ("and", "or", "le", "ge", "ne", "mid", "to") or not name.isalpha():
        out.append(("op", name, space))
    elif (
        words
        and name not in names.NAMES
        and name not in ("circ", "cdot", "emptyset", "infty", "frac", "sqrt", "pm", "ldots")
    ):
        raise SyntaxProblem(f"the command {name} inside of words")
    else:
        out.append(("cmd", name, space))
    return at


def _text(inside: str, command: str, out: list[Token], space: bool, depth: int) -> None:
    r"""The content of a text command: words, a unit, or mathematics set upright (`\text{6 - 5i}`, `\mathrm{e}`)."""
    bare = inside.strip(" ~$\\,;")
    runs = _LETTERS.findall(bare)
    previous = out[-1] if out else ("", "", False)
    known = names.RENAMED.get(bare, bare) in names.FUNCTIONS | names.MULTI_ARGUMENT | {"mod"}
    if known and (bare != "min" or (previous[0] != "num" and previous[1] != "/")):
        out.append(("cmd", names.RENAMED.get(bare, bare), space))
        return
    if len(bare) == 1 and bare.isalpha():
        unit = bare in units.SINGLE or not command.startswith(("math", "oper", "rm", "textit", "textbf"))
        symbol = not (unit and previous[0] in ("num", "word")) and previous[1] not in (
            "frac",
            "{",
            "/",
            "^",
            "}",
        )
        symbol |= command.startswith(("math", "oper")) and previous[0] not in ("num", "word")
        out.append(("sym" if symbol else "word", bare, space))
        return
    unit = previous[0] == "num" and bool(runs) and all(units.known(run) for run in runs)
    upright = (
        not unit
        and all(len(run) == 1 or run in names.NAMES for run in runs)
        and re.search(r"\d|[=<>]|infty", bare)
    )
    count = len(out)
    _scan(inside.replace("$", " "), out, not upright, depth + 1)
    if len(out) > count:
        out[count] = (out[count][0], out[count][1], True)


def _letters(run: str, text: str, start: int, end: int, out: list[Token], space: bool) -> None:
    """A run of letters outside of text commands: a connector, a word, or names and single letters."""
    lower = run.lower()
    previous = out[-1] if out else ("", "", False)
    if lower in names.CONNECTORS and len(run) > 1 and not run.isupper():
        out.append(("op", lower, space))
    elif run in ("x", "X") and previous[0] == "num" and re.match(r"\s*10\s*\^", text[end : end + 8]):
        out.append(("cmd", "times", space))
    elif run == "U" and previous[1] in (")", "]", "\\}") and re.match(r"\s*[(\[{\\]", text[end : end + 4]):
        out.append(("cmd", "cup", space))
    elif is_word(run, lower, text, end, previous, space):
        out.append(("word", run, space))
    else:
        for kind, value in split_letters(run):
            out.append((kind, value, space))
            space = False


def is_word(run: str, lower: str, text: str, end: int, previous: Token, space: bool) -> bool:
    if not run.isascii():
        return True
    if run == "a" and previous[0] == "word" and space and text[end : end + 1] == " ":
        return True  # 3 hours a week
    if len(run) == 1:
        behind = text[end : end + 1]
        unit = run in units.SINGLE and previous[0] == "num" and space and (not behind or behind in ",;/)")
        return unit or (
            run in units.SINGLE
            and previous[1] == "/"
            and text[:end].count("/") == 1
            and _unit_before(text, end)
        )
    if run == "min" and (previous[0] == "num" or previous[1] == "/"):
        return True
    if run in names.NAMES or run in ("dx", "dy", "dt"):
        return False
    if (units.known(run) and run != "in") and (
        previous[0] in ("num", "word") or (space and previous[1] not in "+-*/^_=(<>")
    ):
        return True
    if units.known(run) and previous[1] == "/" and _unit_before(text, end):
        return True
    if lower in ("by", "at", "an", "as", "us", "am", "so", "do"):  # words beside other words only: ax + by
        return previous[0] == "word" or bool(re.match(r"\s+[A-Za-z]{2,}", text[end : end + 12]))
    if lower in names.SHORT_WORDS and not run.isupper():
        return True
    if len(run) < 4 or run.isupper() or lower in names.LETTER_PRODUCTS or not re.search("[aeiouy]", lower):
        return False
    pieces = split_letters(run)
    named = sum(len(value) for kind, value in pieces if kind == "cmd")
    return named < len(run) - 2


def _unit_before(text: str, end: int) -> bool:
    """Whether the word before the slash is a unit: `5 m/s`."""
    before = re.search(r"([A-Za-z]+)\s*/\s*[A-Za-z]+$", text[max(0, end - 40) : end])
    return bool(
        before and units.known(before[1]) and re.search(r"\d\s*" + before[1], text[max(0, end - 60) : end])
    )


_NAME = re.compile("|".join(sorted(names.NAMES - {"inf"}, key=len, reverse=True)) + "|^inf$|.")


@lru_cache(maxsize=8192)
def split_letters(run: str) -> tuple[tuple[str, str], ...]:
    """A run of ASCII letters as known names and single letters, longest names first."""
    pieces = _NAME.findall(run) if len(run) > 1 else [run]
    return tuple(("cmd", names.RENAMED.get(p, p)) if len(p) > 1 else ("sym", p) for p in pieces)


def turned_outward(tokens: list[Token]) -> bool:
    """Whether brackets stand as in `]0, 1[`, so that a `[` closes: they do not nest when each opens that looks like opening."""
    depth = 0
    for kind, text, _ in tokens:
        if kind == "op" and text in "([])":
            depth += 1 if text in "([" else -1
            if depth < 0:
                return True
    return depth > 0
