r"""From the text of an answer, LaTeX and ASCII mixed, to tokens, and the cursor that reads them. The only place that looks at characters.

A token is (kind, text, space before it). Kinds: `num`, `sym` (one letter of mathematics), `cmd` (a command or function), `word` (from a
text command, or a run of letters that is no product), `op`, `row` (a new line in a matrix), `begin` and `end` (of a matrix).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import TypeVar

from undo_hpc.grading import tables, units
from undo_hpc.grading.tables import word_set

Token = tuple[str, str, bool]
CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}"}
T = TypeVar("T")

_REPEATING = re.compile(  # 0.\overline{3}, 0.\dot1\dot8, 0.(3), 0.333...
    r"(?P<head>\d*\.\d*)(?:\\(?:overline|bar)\s*\{?\s*(?P<bar>\d{1,30})\s*\}?"
    r"|\\dot\s*\{?(?P<first>\d)\}?(?:\s*(?P<middle>\d{0,30})\s*\\dot\s*\{?(?P<last>\d)\}?)?"
    r"|\((?P<round>\d{1,30})\)(?=\s*(?:$|[,;=%\\])))"
    r"|(?P<dotted>\d{0,9}\.\d{0,9}?)(?:(?P<cycle>\d)(?P=cycle){2,9}|(?P<cycles>\d{2,6}?)(?P=cycles){1,9})\s*(?:\\[lc]?dots|\.\.\.)"
)
_TOKEN = re.compile(
    r"(?P<num>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,4}(?![\d.]))?|\.\d+)"
    r"|\\(?P<cmd>[a-zA-Z]+)\*?|(?P<row>\\\\(?:\[-?[\d.]+ ?[a-z]{2}\])?)|\\(?P<esc>.)|(?P<dots>\.\.\.+)"
    r"|(?P<time>(?<![A-Za-z])[apAP]\.?\s?[mM]\b\.?)"
    r"|(?P<name>[^\W\d_]+(?:(?<=[a-z])[-'](?=[a-z]{2})[a-z]+)*)|(?P<sign>\*\*|<=|>=|=<|=>|->|!=|==|<>|&)"
    r"|(?P<op>[-+*/^_!|()\[\]{},;:'\"°%<>=$€£¥₹¢?~])|(?P<space>\s+)",
    re.DOTALL,
)
_SIGNS = dict(pair.split(":") for pair in ["**:^", "<=:le", ">=:ge", "=<:le", "!=:ne", "<>:ne", "==:=", "=>:to", "->:to", "&:&"])  # fmt: skip
_ESCAPED = {"{": "\\{", "}": "\\}", "|": "|", "%": "%", "$": "$", "&": "and", "#": "#", "_": "_"}
_DOUBLED = re.compile(r"\\\\(?=(?:[dt]?frac|sqrt|left|right|pi|text|cdot|times|in|cup|cap|infty|le|ge|boxed|pm|circ|begin|end|mathrm)\b|[%$])")  # fmt: skip
_THOUSANDS = re.compile(r"(?<=\d)\s*(?:\{\s*,\s*\}|\\,|,\\!|\\!,\\!|\{\\,\})\s*(?=\d{3}(?!\d))|(?<=\d)'(?=\d{3}(?!\d))")  # fmt: skip
_SPACED = re.compile(r"(?<![\d.,/])\d{1,3}(?: \d{3})+(?![\d/])")
_EUROPEAN = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.,])")
_LEAD = re.compile(r"(?:So|Hence|Thus|Therefore|Then),?\s+")
_SILENT = re.compile(r"\\(?:left|right)\s*\.|\\[()\]!/]|\\\[(?!-?[\d.]+ ?[a-z]{2}\])|\\(?:phantom|hspace|vspace|label|tag)\*?\{[^{}]{0,80}\}")  # fmt: skip
_ENVIRONMENT = re.compile(r"\s*\{\s*([a-zA-Z]+)\*?\s*\}(?:\s*\{[lcr| ]{1,40}\})?")
_MATRICES = word_set("matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix array cases")
_ABBREVIATED = re.compile(r"\b(sq|cu|ft|in|hr|hrs|min|sec|yd|oz|lb|lbs|Rs|approx|Dr|Mr|St|No)\.(?=\s|$|\^|\})")  # fmt: skip
_RAISED = re.compile(r"(?<=\d)\s*\^\s*\{?\s*\\(?:text|mathrm)\s*\{\s*(st|nd|rd|th)\s*\}\s*\}?")
_UNITS = re.compile(  # 60 \frac{\text{km}}{\text{h}}, \frac{60 \text{ km}}{1 \text{ h}}
    r"\\[dt]?frac\s*\{([^{}+-]*\\(?:text|mathrm)\s*\{[^{}]*\}(?:\^\{?\d\}?)?)\s*\}\s*\{(?:1\b[\s~\\,;]*)?(\\(?:text|mathrm)\s*\{([^{}]*)\}(?:\^\{?\d\}?)?)\s*\}"
)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


class SyntaxProblem(ValueError):
    """The text is nothing that this grammar knows."""


class Wordy(SyntaxProblem):
    """The answer is words, or a statement that words change."""


def closing_brace(text: str, start: int) -> int:
    """The index of the brace that closes the one at `start`, or -1. Escaped braces do not count."""
    depth = 0
    for match in _BRACE.finditer(text, start):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0 and match[0] == "}":
            return match.start()
    return -1


def prepare(text: str) -> str:
    """The text without maths delimiters, separators of thousands and the punctuation around an answer."""
    if "\\" in text:
        text = _DOUBLED.sub(r"\\", text) if "\\begin" not in text else text
        text = re.sub(r"\\(q?quad)(?=[a-zA-Z])", r"\\\1 ", _THOUSANDS.sub("", text))
        text = _UNITS.sub(lambda m: f" {m[1]}/{m[2]}" if units.known(m[3].strip(" ~,")) else m[0], text)
        text = _RAISED.sub(r"\\text{\1}", text)
        text = re.sub(r"\{\s*([:=,;])\s*\}|\{ ?\}(?=\^)", r"\1", _SILENT.sub(" ", text))
        text = re.sub(r"(\\)?\$", lambda m: "$" if m[1] else " ", text)
    elif "$" in text or "'" in text or "{" in text:
        text = _THOUSANDS.sub("", text)
        if text.count("$") > 1:  # maths delimiters go, a sign of currency stays: `$5$` and `$5`
            text = re.sub(r"\$\$?" if text.count("$") % 2 == 0 else r"\$(?!\s*\d)", " ", text)
    text = _SPACED.sub(lambda m: m[0].replace(" ", ""), text)
    text = _ABBREVIATED.sub(r"\1", _EUROPEAN.sub(lambda m: m[0].replace(".", ""), text))
    text = text.strip().lstrip(" ,;:*`").rstrip(" \t\n,;:*`")
    text = text[lead.end() :] if (lead := _LEAD.match(text)) else text
    text = text[1:-1] if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" else text
    while text.endswith((".", "\\")) and not text.endswith("..."):
        text = text[:-1].rstrip(" \t\n,;:*")
    return text.lstrip("=").strip() if text.count("=") == 1 else text


def tokenize(text: str) -> list[Token]:
    """Tokens of a prepared text. Raises SyntaxProblem at a character that has no place in an answer."""
    out: list[Token] = []
    _scan(text, out, False)
    return out


def _scan(text: str, out: list[Token], words: bool) -> None:
    """Appends the tokens of `text`; `words`: it stands in a text command, where letters are words."""
    at, space = 0, False
    repeating = {m.start(): m for m in _REPEATING.finditer(text)} if "." in text else {}
    while at < len(text):
        alone = not out or out[-1][1] in ",;=" or (len(out) == 1 and out[0][1] == "-")
        if at in repeating and (alone or not repeating[at]["round"]):
            out.append(("num", str(_repeating(repeating[at])), space))
            at, space = repeating[at].end(), False
            continue
        match = _TOKEN.match(text, at)
        if not match:
            if text[at] not in ".#&@\\" or (text[at + 1 : at + 2].isdigit() and not words):
                raise SyntaxProblem(f"character {text[at]!r}")
            at, space = at + 1, True
            continue
        kind, value, start = match.lastgroup or "", match[match.lastgroup or 0], at
        at = match.end()
        if kind == "space" or value == "~" or (kind == "esc" and value not in _ESCAPED):
            space = True
            continue
        if kind == "cmd":
            at = _command(text, at, value, out, space, words)
        elif kind == "name" and words:
            connector = value.lower() in tables.CONNECTORS
            out.append(("op", value.lower(), space) if connector else ("word", value, space))
        elif kind == "name":
            _letters(value, text, start, at, out, space)
        elif kind == "time":
            out.append(("word", re.sub(r"[. ]", "", value.lower()), space))
        elif kind == "dots":
            out.append(("cmd", "ldots", space))
        elif value != "&" or any(token[0] == "begin" for token in out):
            names = {"sign": _SIGNS, "esc": _ESCAPED}.get(kind, {})
            out.append(("op" if names else kind, names.get(value, value), space))
        space = kind == "esc"


def _repeating(match: re.Match[str]) -> Fraction:
    """The exact value of a repeating decimal."""
    head = match["head"] if match["dotted"] is None else match["dotted"]
    dots = (match["first"] or "") + (match["middle"] or "") + (match["last"] or "")
    cycle = match["bar"] or match["round"] or match["cycle"] or match["cycles"] or dots
    whole, _, digits = head.partition(".")
    nines = 10 ** len(cycle) - 1
    return Fraction(int((whole or "0") + digits) * nines + int(cycle), nines * 10 ** len(digits))


def _command(text: str, at: int, name: str, out: list[Token], space: bool, words: bool) -> int:
    r"""Appends the tokens of the command `\name` that ends at `at`; returns where to go on."""
    if name in tables.TEXT_COMMANDS:
        start = at + len(text[at:]) - len(text[at:].lstrip())
        if text[start : start + 1] != "{":
            return at
        end = closing_brace(text, start)
        if end < 0:
            raise SyntaxProblem("a text command that is never closed")
        _text(text[start + 1 : end], name, out, space)
        return end + 1
    if name in ("begin", "end"):
        match = _ENVIRONMENT.match(text, at)
        if not match:
            raise SyntaxProblem("an environment without a name")
        if match[1] in _MATRICES:
            out.append((name, match[1], space))
        return match.end()
    name = tables.RENAMED.get(name, name)
    if name == "Omega" and out and out[-1][0] == "num":
        out.append(("word", "Ω", space))
    elif name in ("and", "or", "le", "ge", "ne", "mid", "to", "quad") or not name.isalpha():
        out.append(("op", name, space or name == "quad"))
    elif name not in tables.DROPPED:
        if words and name not in tables.NAMES | {"circ", "emptyset", "sqrt", "pm", "ldots"}:
            raise SyntaxProblem(f"the command {name} inside of words")
        out.append(("sym" if name in ("e", "i") else "cmd", name, space))
    return at


def _text(inside: str, command: str, out: list[Token], space: bool) -> None:
    r"""The content of a text command: words, a unit, or mathematics set upright (`\text{6 - 5i}`, `\mathrm{e}`)."""
    bare = inside.strip(" ~$\\,;")
    kind, before = out[-1][:2] if out else ("", "")
    behind_number = kind in ("num", "word")
    name = tables.RENAMED.get(bare, bare)
    minutes = bare == "min" and (kind == "num" or before == "/")
    if name in tables.FUNCTIONS | tables.MULTI_ARGUMENT | {"mod"} and not minutes:
        out.append(("cmd", name, space))
        return
    if len(bare) == 1 and bare.isalpha():
        upright = command.startswith(("math", "oper"))
        unit = bare in units.SINGLE or not (upright or command in ("rm", "textit", "textbf") or bare in "ei")
        symbol = not (unit and behind_number) and before not in ("frac", "{", "/", "^", "}")
        out.append(("sym" if symbol or (upright and not behind_number) else "word", bare, space))
        return
    runs = re.findall(r"[^\W\d_]+", bare)
    unit = kind == "num" and bool(runs) and all(map(units.known, runs))
    maths = all(len(run) == 1 or run in tables.NAMES for run in runs) and re.search(r"\d|[=<>]|infty", bare)
    count = len(out)
    _scan(inside.replace("$", " "), out, unit or not maths)
    if len(out) > count:
        out[count] = (*out[count][:2], True)


def _letters(run: str, text: str, start: int, end: int, out: list[Token], space: bool) -> None:
    """A run of letters outside of text commands: a connector, a word, or names and single letters."""
    previous = out[-1] if out else ("", "", False)
    behind = text[end : end + 8]
    if run.lower() in tables.CONNECTORS and len(run) > 1 and not run.isupper():
        out.append(("op", run.lower(), space))
    elif run in ("x", "X") and previous[0] == "num" and re.match(r"\s*10\s*\^", behind):
        out.append(("op", "*", space))
    elif run == "U" and previous[1] in (")", "]", "\\}") and re.match(r"\s*[(\[{\\]", behind):
        out.append(("cmd", "cup", space))
    elif is_word(run, text, end, previous, space):
        out.append(("word", run, space))
    else:
        for kind, value in split_letters(run):
            out.append((kind, value, space))
            space = False


def is_word(run: str, text: str, end: int, previous: Token, space: bool) -> bool:
    """Whether a run of letters is a word or a unit rather than a product of letters and names."""
    lower, behind = run.lower(), text[end : end + 12]
    before = previous[1] == "/" and re.search(
        r"\d\s*([A-Za-z]+)\s*/\s*[A-Za-z]+$", text[max(0, end - 60) : end]
    )
    per = bool(before and units.known(before[1]))  # 5 m/s
    if not run.isascii():
        return True
    if len(run) == 1:
        if run == "a":
            return previous[0] == "word" and space and behind[:1] == " "  # 3 hours a week
        alone = previous[0] == "num" and space and behind[:1] in ("", ",", ";", "/", ")")
        return run in units.SINGLE and (alone or (per and text[:end].count("/") == 1))
    if run == "min" and (previous[0] == "num" or previous[1] == "/"):
        return True
    if run in tables.NAMES or run in ("dx", "dy", "dt"):
        return False
    beside = previous[0] in ("num", "word") or (space and previous[1] not in "+-*/^_=(<>")
    if units.known(run) and (per or (beside and run != "in")):
        return True
    if lower in ("by", "at", "an", "as", "us", "am", "so", "do"):  # words beside other words only: ax + by
        return previous[0] == "word" or bool(re.match(r"\s+[A-Za-z]{2,}", behind))
    if lower in tables.SHORT_WORDS and not run.isupper():
        return behind[:1] not in ("^", "_")
    if len(run) < 4 or run.isupper() or not re.search("[aeiouy]", lower) or lower in ("abcd", "abcde"):
        return False
    return sum(len(value) for kind, value in split_letters(run) if kind == "cmd") < len(run) - 2


_NAME = re.compile("|".join(sorted(tables.NAMES - {"inf"}, key=len, reverse=True)) + "|^inf$|.")


@lru_cache(maxsize=8192)
def split_letters(run: str) -> tuple[tuple[str, str], ...]:
    """A run of ASCII letters as known names and single letters, longest names first."""
    named = (tables.RENAMED.get(piece, piece) for piece in (_NAME.findall(run) if len(run) > 1 else [run]))
    return tuple(("op" if not p.isalpha() else "sym" if len(p) == 1 else "cmd", p) for p in named)


def turned_outward(tokens: list[Token]) -> bool:
    """Whether brackets stand as in `]0, 1[`, so that a `[` closes: they do not nest when each opens that looks like opening."""
    steps = (1 if text in "([" else -1 for kind, text, _ in tokens if kind == "op" and text in "([])")
    depths = list(accumulate(steps))
    return bool(depths) and (min(depths) < 0 or depths[-1] > 0)


class Cursor:
    """A place among tokens, and the brackets that are open there."""

    def __init__(self, tokens: list[Token], thousands: bool) -> None:
        self.tokens, self.thousands = tokens, thousands
        self.at = 0
        self.bars = 0  # open bars: the next one closes
        self.brackets = 0  # open brackets: a comma in them never parts thousands
        self.outward = turned_outward(tokens)

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        """The kind and text of the next token, or of one behind it."""
        i = self.at + ahead
        return self.tokens[i][:2] if i < len(self.tokens) else ("end", "")

    def word_in(self, words: frozenset[str]) -> bool:
        """Whether one of these words stands here."""
        return self.peek()[0] == "word" and self.peek()[1].lower() in words

    def take(self) -> tuple[str, str]:
        """The next token, which is used up."""
        self.at += 1
        return self.peek(-1)

    def skip(self, *texts: str) -> bool:
        """Takes one of these operators or commands, if it is there."""
        kind, text = self.peek()
        found = kind in ("op", "cmd") and text in texts
        self.at += found
        return found

    def need(self, *texts: str) -> str:
        """Takes an operator or command that must be there."""
        if not self.skip(*texts):
            raise SyntaxProblem(f"expected {texts[0]!r}, found {self.peek()[1]!r}")
        return self.peek(-1)[1]

    def spaced(self) -> bool:
        """Whether there is space before the next token."""
        return self.at < len(self.tokens) and self.tokens[self.at][2]

    def ahead(self, count: int) -> list[str]:
        """The texts of the next tokens."""
        return [text for _, text, _ in self.tokens[self.at : self.at + count]]

    def within(self, parse: Callable[[], T], brackets: int, bars: int = 0) -> T:
        """Parses what stands in brackets."""
        outside = self.brackets, self.bars
        self.brackets, self.bars = brackets, bars
        found = parse()
        self.brackets, self.bars = outside
        return found

    def raw_subscript(self) -> str:
        """The text of a subscript or of another name in brackets."""
        opening, depth = self.take()[1], 1
        parts = [opening] if opening not in ("{", "(") else []
        while not parts or opening in ("{", "("):
            kind, text = self.take()
            depth += (text == opening) - (text == CLOSING[opening])
            if kind == "end":
                raise SyntaxProblem("open subscript")
            if not depth:
                break
            parts.append(text)
        return "".join(parts)
