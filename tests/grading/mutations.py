"""Near misses and rewrites of gold answers. A mutation changes the value (but see `legitimate`), a rewrite keeps it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

_DIGIT = re.compile(r"(?<![A-Za-z_^{\\])\d(?![^{]*\\text)")
_VARIABLE = re.compile(r"(?<![A-Za-z\\])[a-z](?![A-Za-z])")
_OTHER_LETTER = {
    "x": "y",
    "y": "z",
    "n": "m",
    "m": "n",
    "a": "b",
    "b": "c",
    "k": "m",
    "t": "s",
    "r": "s",
    "p": "q",
}
_UNITS = {"cm": "m", "m": "km", "inches": "feet", "feet": "inches", "hours": "minutes", "minutes": "hours", "degrees": "radians",
          "cents": "dollars", "dollars": "cents", "km": "cm", "seconds": "hours", "miles": "feet", "pounds": "ounces"}  # fmt: skip
_SWAPS = (
    ("\\sin", "\\cos"),
    ("\\tan", "\\cot"),
    ("\\gcd", "\\max"),
    ("\\lfloor", "\\lceil"),
    ("\\max", "\\min"),
    ("\\ln", "\\exp"),
)
_RELATIONS = (("\\le", "<"), ("\\geq", ">"), ("\\leq", "<"), ("<", ">"), (">", "<"), ("\\ge", ">"))
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?")


def items_of(gold: str) -> tuple[str, list[str], str] | None:
    """(before, items, behind) of a list of values, a tuple or a set without nesting; None for anything else."""
    match = re.fullmatch(
        r"(\\\{|[({[]|\\left[(\[]|\\left\\\{)?([^()\[\]{}]*?|(?:[^()\[\]]|\\[a-z]+\{[^{}]*\})*?)(\\\}|[)}\]]|\\right[)\]]|\\right\\\})?",
        gold,
    )
    if (
        not match
        or bool(match[1]) != bool(match[3])
        or re.search(r"\d,\\?!?\d{3}(?!\d)", gold)
        or "\\text" in gold
    ):
        return None
    parts, depth, last = [], 0, 0
    for i, char in enumerate(match[2]):
        depth += (char in "{([") - (char in "})]")
        if char == "," and depth == 0 and match[2][i - 1 : i] != "\\":
            parts.append(match[2][last:i])
            last = i + 1
    parts.append(match[2][last:])
    return (
        (match[1] or "", [p.strip() for p in parts], match[3] or "")
        if len(parts) > 1 and all(p.strip() for p in parts)
        else None
    )


def mutations(gold: str) -> Iterator[tuple[str, str]]:
    """(kind, near miss) pairs of one gold answer."""
    for match in list(_DIGIT.finditer(gold))[:4]:
        yield "digit", gold[: match.start()] + str((int(match[0]) + 3) % 10) + gold[match.end() :]
    if re.match(r"[\d\\(]", gold) and not gold.startswith(("\\text", "\\{")):
        yield "sign", "-" + gold
    if gold.startswith("-"):
        yield "sign", gold[1:]
    for sign, other in ((" + ", " - "), ("+", "-"), ("-", "+")):
        if sign in gold[1:]:
            at = gold.index(sign, 1)
            yield "sign", gold[:at] + other + gold[at + len(sign) :]
    match = re.search(r"\^\{?(\d+)\}?", gold)
    if match and "circ" not in gold[match.start() : match.end() + 5]:
        yield "exponent", f"{gold[: match.start()]}^{{{int(match[1]) + 1}}}{gold[match.end() :]}"
        yield "exponent", gold[: match.start()] + gold[match.end() :]
    if (
        re.match(r"(?:\\left)?[(\[][^()\[\]]+,[^()\[\]]+[)\]]$", gold.replace("\\right", ""))
        and gold.count(",") == 1
    ):
        swapped = {"(": "[", "[": "(", ")": "]", "]": ")"}
        yield "bracket", "".join(swapped.get(c, c) if c in "([" else c for c in gold)
        yield "bracket", "".join(swapped.get(c, c) if c in ")]" else c for c in gold)
    for match in list(
        _VARIABLE.finditer(re.sub(r"\\(?:text|mathrm|mbox)\{[^}]*\}", lambda m: "#" * len(m[0]), gold))
    )[:2]:
        if match[0] in _OTHER_LETTER and _OTHER_LETTER[match[0]] not in gold:
            yield "variable", gold[: match.start()] + _OTHER_LETTER[match[0]] + gold[match.end() :]
    for unit, other in _UNITS.items():
        if re.search(rf"(?<![A-Za-z]){unit}(?![A-Za-z])", gold) and re.search(r"\d", gold):
            yield "unit", re.sub(rf"(?<![A-Za-z]){unit}(?![A-Za-z])", other, gold, count=1)
            break
    found = items_of(gold)
    if found:
        before, items, behind = found
        yield "dropped", before + ", ".join(items[:-1]) + behind
        if "{" not in before:
            yield "doubled", before + ", ".join([*items, items[-1]]) + behind
        if before in ("(", "\\left(") and items[0] != items[1]:
            yield "swapped", before + ", ".join([items[1], items[0], *items[2:]]) + behind
    flipped = re.sub(r"\\frac\{([^{}]+)\}\{([^{}]+)\}", r"\\frac{\2}{\1}", gold, count=1)
    if flipped != gold and not re.search(r"\\frac\{([^{}]+)\}\{\1\}", gold):
        yield "fraction", flipped
    for pattern in ("\\pi", "\\sqrt", "\\infty"):
        if pattern in gold:
            yield (
                "constant",
                gold.replace(pattern, {"\\pi": "", "\\sqrt": "", "\\infty": "0"}[pattern], 1) or "0",
            )
    for old, new in _SWAPS:
        if old in gold:
            yield (
                "function",
                gold.replace(old, new).replace("\\rfloor", "\\rceil" if old == "\\lfloor" else "\\rfloor"),
            )
            break
    for old, new in _RELATIONS:
        if re.search(re.escape(old) + r"(?![a-z])", gold) and "\\text" not in gold:
            yield "relation", re.sub(re.escape(old) + r"(?![a-z])", lambda _, n=new: n + " ", gold, count=1)  # type: ignore[misc]
            break


def rewrites(gold: str) -> Iterator[tuple[str, str]]:
    """(kind, other form of the same value) pairs of one gold answer."""
    yield "dollars", f"${gold}$" if "$" not in gold else gold
    yield "point", gold + "." if gold[-1:].isalnum() else gold
    if "\\frac" in gold:
        yield "dfrac", gold.replace("\\frac", "\\dfrac")
    simple = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"(\1/\2)", gold)
    if simple != gold and not re.search(r"\d\s*\\frac|[_^]", gold):
        yield "slash", simple
    if "^\\circ" in gold:
        yield "degrees", gold.replace("^\\circ", "°")
        yield "degrees", gold.replace("^\\circ", "^{\\circ}")
        if re.fullmatch(r"-?[\d.]+\^\\circ", gold):
            yield "degrees", gold.replace("^\\circ", "")
    if "\\left" in gold:
        yield "left", gold.replace("\\left", "").replace("\\right", "")
    elif re.fullmatch(r"[(\[][^()\[\]]*[)\]]", gold):
        yield "left", "\\left" + gold[:-1] + "\\right" + gold[-1]
    if not re.search(
        r"\\text|\\mbox|\\math|<=|>=|\.\(|<<|!=|[A-Za-z]{3}",
        re.sub(r"\\(?:frac|sqrt|left|right|cup|pi|infty|circ)", "", gold),
    ):
        yield "spacing", re.sub(r"(?<=[-+=,<>])(?![!;:])", " ", gold)
        yield (
            "spacing",
            re.sub(r"(?<=[-+=<>)(])", r"\\,", gold) if "\\begin" not in gold and "\\!" not in gold else gold,
        )
    found = items_of(gold)
    if (
        found
        and found[0] in ("", "\\{", "\\left\\{")
        and "=" not in gold
        and "\\ldots" not in gold
        and not re.search("[A-Za-z]{4}", gold)
    ):
        yield "order", found[0] + ", ".join(reversed(found[1])) + found[2]
    if re.search(r"\bk ?\\in ?\\mathbb\{Z\}", gold) and "m" not in gold.replace("\\mathbb", "").replace(
        "\\pmod", ""
    ):
        yield "parameter", re.sub(r"(?<![A-Za-z\\])k(?![A-Za-z])", "m", gold)
    if _PLAIN.fullmatch(gold):
        value = Fraction(gold)
        yield "fraction", f"\\frac{{{value.numerator * 3}}}{{{value.denominator * 3}}}"
        if "." in gold:
            yield "zero", gold + "0"
        elif abs(value) >= 1000:
            yield "thousands", f"{int(value):,}"
            yield "thousands", f"{int(value):,}".replace(",", "{,}")


def legitimate(kind: str, gold: str, mutated: str) -> str:
    """Why a mutation keeps the value, or an empty string where it does not."""
    plain = [re.sub(r"\\left|\\right|\s|\\[,;! ]", "", text) for text in (gold, mutated)]
    if plain[0] == plain[1]:
        return "only spacing differs"
    if kind == "bracket" and "infty" in gold:
        return "an end at infinity is open, whatever the bracket says"
    if kind == "sign" and re.fullmatch(
        r"-?(?:0(?:\.0*)?|\\frac\{0\}\{\d+\})(?:\s*\\?%|\\text.*|\^\\circ)?", gold
    ):
        return "zero has no sign"
    if kind == "variable" and re.match(r"\(?[a-z](?:,\s*[a-z])*\)?\s*(?:=|\\in\b)", gold):
        return "the name before the equals sign is of one unknown or function, whatever its letter"
    if kind == "variable" and re.search(r"[a-z]\([a-z]\)\s*[=<>]", gold):
        return "the name of a function or of its argument"
    if kind == "sign" and (re.search(r"(?<![\d.])0(?![.\d])", gold) or "\\pm" in gold or "mathbb{Z}" in gold):
        return "zero, plus-minus and a parameter that runs over the integers have no sign"
    if re.search(r"lfloor|operatorname|gcd|max|equiv|\\cap|\^343|10\^1$", gold):
        return "the value does not depend on this digit"
    if kind == "dropped" and re.search(r"\\in ?(?:\\mathbb|Z)|n \\ge 1$", gold):
        return "the domain of the parameter goes without saying"
    if kind == "doubled" and re.search(r", [nk] (?:\\in|\\ge) \w$", gold):
        return "the domain of the parameter is said twice"
    if kind == "dropped" and re.match(r"(?:Yes|No), because", gold):
        return "the reason is left out"
    if re.search(r"=.*=", gold):
        return "the last side of a chain is the answer"
    return ""
