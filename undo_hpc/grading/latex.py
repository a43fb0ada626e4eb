r"""LaTeX brought to one plain form: no delimiters, no spacing, one name for each command.

`clean` marks words that stood in `\text{}` with U+27E6 and U+27E7, so that `5\text{ m}` (a unit) and `5m` (a product) stay apart.
"""

from __future__ import annotations

import re

from undo_hpc.grading.names import FUNCTIONS, MULTI_ARGUMENT, NAMES
from undo_hpc.grading.scan import closing_brace

_TEXT = re.compile(
    r"\\(?:text|textnormal|textrm|textbf|textit|texttt|textsf|mbox|hbox|mathrm|mathbf|mathit|mathsf|operatorname|bold"
    r"|boldsymbol|bf|rm|it|emph|underline|mathcal|bm)\*?\s*\{"
)
_OPERATOR = FUNCTIONS | MULTI_ARGUMENT | {"arcsinh", "arccosh", "arctanh", "mod"}
_RENAMED = {
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "dbinom": "binom",
    "tbinom": "binom",
    "leq": "le",
    "leqslant": "le",
    "leqq": "le",
    "geq": "ge",
    "geqslant": "ge",
    "geqq": "ge",
    "neq": "ne",
    "lt": "<",
    "gt": ">",
    "lbrace": "{",
    "rbrace": "}",
    "lbrack": "[",
    "rbrack": "]",
    "lparen": "(",
    "rparen": ")",
    "vert": "|",
    "lvert": "|",
    "rvert": "|",
    "mid": "|",
    "Vert": "|",
    "lVert": "|",
    "rVert": "|",
    "varnothing": "emptyset",
    "varepsilon": "epsilon",
    "varphi": "phi",
    "vartheta": "theta",
    "degree": "circ",
    "cdotp": "cdot",
    "ast": "cdot",
    "star": "cdot",
    "dots": "ldots",
    "cdots": "ldots",
    "dotsc": "ldots",
    "dotsb": "ldots",
    "dotsm": "ldots",
    "infin": "infty",
    "infinity": "infty",
    "exponentialE": "e",
    "imath": "i",
    "imaginaryI": "i",
    "simeq": "approx",
    "colon": ":",
    "backslash": "setminus",
    "smallsetminus": "setminus",
    "bigcup": "cup",
    "bigcap": "cap",
    "bar": "overline",
    "ulcorner": "lceil",
    "urcorner": "rceil",
    "llcorner": "lfloor",
    "lrcorner": "rfloor",
    "tg": "tan",
    "ctg": "cot",
    "arctg": "arctan",
    "land": "wedge",
    "thinspace": "",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "lnot": "neg",
}
_DROPPED = {
    "left",
    "right",
    "big",
    "Big",
    "bigg",
    "Bigg",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "biggl",
    "biggr",
    "Biggl",
    "Biggr",
    "displaystyle",
    "textstyle",
    "scriptstyle",
    "limits",
    "nolimits",
    "quad",
    "qquad",
    "enspace",
    "nobreak",
    "hfill",
    "newline",
    "notag",
    "nonumber",
    "middle",
    "phantom",
    "hspace",
    "vspace",
    "mathopen",
    "mathclose",
    "noindent",
    "centering",
    "bigm",
    "par",
    "linebreak",
    "boxed",
    "fbox",
    "checkmark",
    "blacksquare",
    "thinspace",
    "medspace",
    "thickspace",
    "negthinspace",
    "angle",
    "triangle",
    "measuredangle",
    "Large",
    "large",
    "huge",
    "Huge",
}
_COMMAND = re.compile(r"\\([a-zA-Z]+)\s*|\\(.)|\\$", re.DOTALL)
_SPACING = {
    "|": "|",
    ",": "",
    "!": "",
    ";": " ",
    ":": " ",
    " ": " ",
    ">": " ",
    "(": "",
    ")": "",
    "[": "",
    "]": "",
    "\n": " ",
    "/": "",
    "-": "",
}
_DOUBLED = re.compile(
    r"\\\\(?=(?:[dt]?frac|sqrt|left|right|pi|text|cdot|times|in|cup|cap|infty|le|ge|boxed|pm|circ|begin|end|mathrm)\b)"
)
_GLUED_QUAD = re.compile(r"\\(q?quad)(?=[a-zA-Z])")
_THOUSANDS = re.compile(r"(?<=\d)\s*(?:\{\s*,\s*\}|\\,|,\\!|\\!,\\!|\{\\,\})\s*(?=\d{3}(?!\d))")
_ASCII_RELATION = re.compile(r"<=|>=|=<|=>|!=|==|<>")
_ASCII_NAMES = {
    "<=": r"\le ",
    ">=": r"\ge ",
    "=<": r"\le ",
    "=>": r"\to ",
    "!=": r"\ne ",
    "==": "=",
    "<>": r"\ne ",
}
_TRAILING = " \t\n.,;:\\"
OPEN_MARK, CLOSE_MARK = "\u27e6", "\u27e7"


_WORD = re.compile(r"[^\W\d_]+(?:\.[^\W\d_]\.)?")
_SEGMENT = re.compile(
    r"\\(?:overline|overrightarrow|overleftrightarrow|widehat|vec|bar)\s*\{\s*([A-Z]{2,})\s*\}"
)
_UNIT_FRACTION = re.compile(
    r"\\frac\s*\{\s*\u27e6([^\u27e7]+)\u27e7\s*\}\s*\{\s*\u27e6([^\u27e7]+)\u27e7\s*(\^\s*\{?\d\}?)?\s*\}"
)


_FORMULA = re.compile(r"[\w)]\s*[-+=]\s*[\w(\\]|sqrt\s*\(|\binf(?:inity)?\b|^-?\d*(?:pi|(?<=\d)i)$")
_LETTERS = re.compile(r"[^\W\d_]+")
_TEXT_SPACE = re.compile(r"\\[,;:~ ]")  # inside of a text command these part words
_MINUTES = re.compile(
    r"\d[\s~]*\\(?:text|mathrm|textrm)\s*\{[\s~]*min[\s~]*\}(?![({_])"
)  # `15 \text{ min}`, not `\text{min}(x, y)`
_DEGREES = re.compile(r"\^\s*\{\s*\\circ\s*\}")
_BRACED_SIGN = re.compile(r"\{\s*([:=])\s*\}")
_INNER_REMARK = re.compile(r"\u27e6([^\u27e6\u27e7()]+)\(([A-Za-z ]+)\)\s*\u27e7$")  # `6 ways (in total)`
_REMARK = re.compile(
    r"(?:\(\s*\u27e6|\u27e6\s*\()([^\u27e7()]{2,})(?:\u27e7\s*\)|\)\s*\u27e7)$"
)  # `120 (ways)`
_LEAD_IN = re.compile(
    r"[\u27e6\s]*(?:the\s+)?(?:final\s+|correct\s+)?answer(?:\s+is\b)?[\u27e7\s]*:?[\u27e7\s]*(?=[^\s\u27e7])",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"\u27e6?\s*(?:about|approximately)(?:\s*\u27e7\s*|\s+)(?=[-$\d])", re.IGNORECASE)
_FOR_ALL = re.compile(
    r"(?<=[^\s,;])[\s,;]*\u27e6?\s*\b(?:for|where)\s+(?:all|any|every|each|some)\b(?:(?!\\[gl]e\b|\\ne\b|except|but\b)[^=<>])*$"
)


def _texts(text: str) -> str:
    r"""`\text{cm}` as marked words; `\operatorname{lcm}` as a command."""
    out: list[str] = []
    last = 0
    for match in _TEXT.finditer(text):
        if match.start() < last:
            continue
        end = closing_brace(text, match.end() - 1)
        if end < 0:
            break  # never closed: what follows stays as it is
        inside = text[match.end() : end]
        bare = inside.strip().strip("$")
        out.append(text[last : match.start()])
        if _FORMULA.search(bare) and all(
            len(run) == 1 or run in NAMES or run in ("and", "or") for run in _LETTERS.findall(bare)
        ):
            out.append(f" {inside} ")  # `\\text{6 - 5i}`: mathematics, set upright
        elif bare in _OPERATOR and not (
            bare == "min" and _MINUTES.search(text[max(0, match.start() - 8) : end + 2])
        ):
            out.append(f"\\{bare} ")
        elif "\\" in bare or not any(c.isalpha() for c in bare):
            out.append(f" {_texts(_TEXT_SPACE.sub(' ', inside))} " if "\\" in bare else inside)
        elif any(c.isdigit() for c in bare):
            out.append(" " + _WORD.sub(lambda m: f"{OPEN_MARK}{m[0]}{CLOSE_MARK}", inside) + " ")
        elif len(bare) == 1:
            out.append(
                f" {bare} "
                if "mat" in match[0] or "bold" in match[0] or "oper" in match[0]
                else f" {OPEN_MARK}{bare}{CLOSE_MARK} "
            )
        else:
            out.append(f" {OPEN_MARK}{inside.strip()}{CLOSE_MARK} ")
        last = end + 1
    out.append(text[last:])
    return "".join(out)


def _command(match: re.Match[str]) -> str:
    name = match[1]
    if name:
        if name in _DROPPED:
            return " "
        name = _RENAMED.get(name, name)
        if not name.isalpha():
            return name if name not in "{}" else f"\\{name}"
        return f"\\{name} " if name != "e" and name != "i" else f" {name} "
    sign = match[2]
    if sign is None:
        return ""
    if sign in _SPACING:
        return _SPACING[sign]
    return sign if sign in "%$&#_" else match[0]


def clean(text: str) -> str:
    """The answer without delimiters, sizes and spacing commands; `text` has been through `lookalikes.unify`."""
    text = text.strip()
    if "\\" in text:
        if "\\\\" in text and "\\begin" not in text:
            text = _DOUBLED.sub(r"\\", text)
        text = _GLUED_QUAD.sub(r"\\\1 ", text)
        text = _THOUSANDS.sub("", text)
        text = re.sub(r"\\(?:left|right)\s*\.", "", text)
        text = re.sub(r"\\(?:phantom|hspace|vspace|label|tag)\*?\{[^{}]*\}", "", text)
        if "{" in text:
            text = _BRACED_SIGN.sub(r"\1", _texts(text))
        text = text.replace(r"\$", "\x01").replace("$", " ").replace("\x01", "$")
        text = _COMMAND.sub(_command, text)
        text = _UNIT_FRACTION.sub(f" {OPEN_MARK}\\1/\\2{CLOSE_MARK}\\3", _SEGMENT.sub(r"\1", text))
        text = _DEGREES.sub(r"^\\circ ", text)
        text = text.replace(r"\not =", r"\ne ").replace(r"\not=", r"\ne ").replace(r"\not \in", r"\notin ")
    else:
        text = _THOUSANDS.sub("", text)
        text = _undollar(text)
    text = text.replace("...", r"\ldots ")
    if text.find("=") >= 0 or "<" in text:
        text = _ASCII_RELATION.sub(lambda m: _ASCII_NAMES[m[0]], text)
    text = text.replace("**", "^").replace("~", " ").replace("`", "")
    return _bare(
        " ".join(text.split()).rstrip(_TRAILING + "*").lstrip(" ,;:*=") if text.strip() != "=" else text
    )


def _bare(text: str) -> str:
    """Without what only introduces or explains an answer: `Answer: 120`, `120 (ways)`, `f(x) = 2x for all x`; `]0, 1[` as `(0, 1)`."""
    if text[:1] in "aA\u27e6" and (about := _ABOUT.match(text)):
        text = text[about.end() :]
    if "nswer" in text:
        text = _LEAD_IN.sub("", text, count=1) if _LEAD_IN.match(text) else text
    if text[-1:] in (")", CLOSE_MARK) and CLOSE_MARK in text and "(" in text:
        text = _INNER_REMARK.sub(
            f"{OPEN_MARK}\\1\\2{CLOSE_MARK}", _REMARK.sub(f"{OPEN_MARK}\\1{CLOSE_MARK}", text)
        )
    if "=" in text and (tail := _FOR_ALL.search(text)):
        text = text[: tail.start()]
    return _outward_brackets(text) if text[:1] == "]" or text[-1:] == "[" else text


def _outward_brackets(text: str) -> str:
    """`]0, 1[` as `(0, 1)`: brackets that open and close in turn, an end that is left out by a bracket turned away from it."""
    brackets = list(re.finditer(r"[()\[\]]", text))
    opening, closing = brackets[::2], brackets[1::2]
    if len(opening) != len(closing) or any(b[0] == ")" for b in opening) or any(b[0] == "(" for b in closing):
        return text
    letters = list(text)
    for found, outward, plain in ((opening, "]", "("), (closing, "[", ")")):
        for bracket in found:
            if bracket[0] == outward:
                letters[bracket.start()] = plain
    return "".join(letters)


def _undollar(text: str) -> str:
    """Takes maths delimiters away and leaves a currency sign: `$5$` against `$5`."""
    if "$" not in text:
        return text
    count = text.count("$")
    if count == 1:
        return text
    return re.sub(r"\$\$?", " ", text) if count % 2 == 0 else re.sub(r"\$(?!\s*\d)", " ", text)


_WORD_NOISE = re.compile(r"[\u27e6\u27e7{}\"'`*_~^$()\[\]]|\\(?:[a-zA-Z]+|.)")


def words(cleaned: str) -> str:
    """An answer as words: lower case, without marks, brackets, punctuation and articles."""
    text = _WORD_NOISE.sub(" ", cleaned).lower()
    text = re.sub(r"[.,;:!?](?=\s|$)", " ", text)
    return " ".join(word for word in text.split() if word not in ("the", "a", "an"))
