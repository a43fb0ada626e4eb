r"""Multiple choice: `C`, `(C)`, `C: text`, `\textbf{(C)}\ 12`, or the text of the option."""

from __future__ import annotations

import re

from undo_hpc.grading import extract, words
from undo_hpc.grading.boxes import last_answer
from undo_hpc.grading.extract import Found
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.reasoning import visible
from undo_hpc.grading.sentences import sentence_end
from undo_hpc.grading.tokens import prepare

_COMMANDS = re.compile(
    r"\\(?:text(?:bf|rm|it|sf)?|mathrm|mathbf|mbox|boldsymbol|bf|rm)\s*\{?|\\[:;,! ]|\\q?quad|~"
)
_FORM = re.compile(
    r"(?:(?:option|choice|answer)\s*)?[(\[{]{0,2}\s*([A-Za-z])\s*[)\]}]{0,2}\s*(?:[).:,\-]|$)\s*(.*)",
    re.DOTALL | re.IGNORECASE,
)
# What stands behind a letter where a second one follows: `B, C`, `(B) and (C)`.
_SECOND = r"[)}\]*\s]{0,6}(?:[,;&]|and|or|\s){1,8}[(*\s]{0,6}[A-Z][)}\]*\s.]{0,6}(?:[,;&\n]|and\b|or\b|$)"
_ANOTHER = re.compile(_SECOND)
_PARENTHESES = re.compile(r"\(\s*([A-Za-z])\s*\)")
_SIGNS = re.compile(r"[=<>^*/\\]|\d\s*-")
_SAID = re.compile(
    r"(?i:answer|choice|option|réponse|respuesta|antwort|故?选(?:择|项)?|答案|答|正解|정답|답|ответ)\s*(?:\*\*)?"
    r"[^A-Z\n\d$\\<>=()\[\]{}]{0,40}?[(\[{]{0,2}(?:\\text(?:bf)?\{)?\(?\s*(?<![A-Za-z])([A-Z])"
    rf"(?![a-zA-Z'+*/^=_(]|\s*[-+*/^=<>]|\s+[a-z]{{2,}}\s+[a-z])(?!{_SECOND})"
)
_NEGATED = re.compile(
    r"(?:\bnot|\bcannot|n't|\bneither|\bnever)\s+(?:be\s+)?(?:(?:option|choice)\s+)?[(*\[]*$", re.IGNORECASE
)
_BUT = re.compile(
    r"[)\]*.,;\s]*(?:but|rather|instead|it(?:'s|\s+is))\s+(?:rather\s+|instead\s+)?(?:(?:option|choice)\s+)?[(*\[]*([A-Z])\b"
)
_IS_RIGHT = re.compile(
    r"(?:(?i:option|choice|answer|statement)\s+|(?<![A-Za-z]))[*(\[]*([A-Z])[)\]*.]*\s+is\s+(?:the\s+)?(?:only\s+|most\s+)?"
    r"(?:correct|right|best|true|one|option|choice)\b(?!\s*\?|\s+(?:at first|only|if|when))"
)
_SAYS = re.compile(
    r"(?:it's|it is|is|be|choose|pick|select|therefore|thus|so|hence)\s*:?\s*(?:option|choice)?\s*"
    r"[*(\[]*([A-Z])\b[)\]*]*(?=\s*(?:[.,;!—–]|-|$|\n))",
    re.IGNORECASE,
)
_OPTION = re.compile(
    r"[\s$]*[({\[]*\s*([A-J])\s*[)}\]]+\s*[.:]?\s*(?=[A-Za-z0-9$\\.-])(?!\\(?:cup|cap|times|cdot|in)|(?:and|or)\b)(.+)",
    re.DOTALL,
)


def bare(text: str) -> str:
    """An answer without delimiters and text commands, so that a letter stands alone."""
    return " ".join(re.sub(r"[{}$]", " ", _COMMANDS.sub(" ", prepare(unify(text[:2000])))).split()).strip(
        " .*"
    )


def option(text: str) -> tuple[str, str] | None:
    r"""(letter, value) of an answer that gives both, such as `\textbf{(D)}\ 13`."""
    plain = unify(text[:2000]).strip()
    if not re.match(r"[\s$\\({\[]", plain) or not re.search(r"[A-J]\s*\)", plain[:24]):
        return None
    head = re.match(
        r"[\s$]*\\(?:text(?:bf|rm)?|mathrm|mathbf)\s*\{?\s*\(?\s*([A-J])\s*\)\s*\}?(?:\s|\\[:;,! ]|\\q?quad|~)*(.+)",
        plain,
        re.DOTALL,
    )
    found = head or _OPTION.match(re.sub(r"^(\([A-J]\))(?:\s|\\[:;,! ]|\\q?quad|~)*", r"\1 ", plain))
    if (
        not found
        or not found[2].strip(" $}.")
        or re.match(r"\s*(?:,|and\b|or\b|[-+*/^=<>|]|\\(?:cup|cap|text\s*\{\s*(?:and|or)))", found[2])
    ):
        return None
    return found[1], found[2].strip().rstrip("$").strip()


def several(gold: str, pred: str) -> bool:
    """Whether both answers choose the same several letters: `BD`, and `B, D` or `B and D`."""
    wanted = bare(gold)
    if not re.fullmatch(r"[A-J]{2,6}", wanted) or list(wanted) != sorted(set(wanted)):
        return False
    return "".join(re.findall(r"[A-J]", bare(pred))) == wanted and not re.sub(
        r"[A-J(),;&.\s]|\band\b", "", bare(pred)
    )


def letter_of(text: str, limit: int = 20) -> str | None:
    r"""The letter that an answer gives: `C`, `(c)`, `\text{(C)}\ 12`, `C: because`; None where it is no such thing."""
    plain = bare(text)
    single = re.sub(r"[\s()\[\].:*]", "", plain)
    if len(single) == 1 and single.isalpha() and single.isascii():
        letter = single.upper()
    else:
        match = _PARENTHESES.match(plain) or _FORM.fullmatch(plain)
        if not match or not match[1].isascii() or (match.re is _FORM and not match[1].isupper()):
            return None
        rest = plain[match.end(1) :].lstrip(")}]* ")
        if _ANOTHER.match(plain, match.end(1)) or (rest[:1] and rest[0] in "*/+=^_<>!'"):
            return None
        letter = match[1].upper()
    return letter if ord(letter) - 65 < limit else None


def gold_letter(gold: str, count: int) -> str | None:
    """The letter of the gold answer: `C`, `(C)`, `C Cecile`, or the last line that begins with `(C)`."""
    found = letter_of(gold)
    if found and (not count or ord(found) - 65 < count):
        return found
    lines = [line for line in gold[:2000].splitlines() if re.match(r"\s*\([A-Z]\)\s", line)]
    if lines:
        return lines[-1].strip()[1]
    match = re.fullmatch(r"\(?\s*([A-Z])\s*\)?\s*(?:[).:\n,-]\s*|\s+)([A-Za-z].*)", bare(gold), re.DOTALL)
    return match[1] if match else None


def choice_of(text: str, choices: tuple[str, ...]) -> str | None:
    """The letter of the one option whose text this is, or None."""
    plain = prepare(unify(text[:2000]))
    wanted = re.sub(r"[\s{}]", "", plain)
    if not wanted or re.fullmatch(r"\(?[A-Z]\)?\.?", wanted):
        return None  # a letter is the option's letter before it is an option's text
    options = [prepare(unify(choice)) for choice in choices]
    exact = [i for i, choice in enumerate(options) if re.sub(r"[\s{}]", "", choice) == wanted]
    said = words.plain(text)
    loose = [i for i, choice in enumerate(choices) if said and words.plain(choice) == said]
    for hits in (exact, [] if _SIGNS.search(plain) else loose):
        if len(hits) == 1:
            return chr(65 + hits[0])
    return None


def find_letter(text: str, choices: tuple[str, ...]) -> Found | None:
    """The letter that a prediction chooses: the last of box and 'answer is', then an option's text, then the closing sentence."""
    text = visible(text)
    best: tuple[int, str, str] | None = None
    box = last_answer(text)
    said = _option_stated(text, choices)
    if said and (box is None or box.start < said[0]):
        return Found(said[1], "option text")
    if box:
        letter = choice_of(box.content, choices) or letter_of(box.content)
        if letter:
            best = (box.start, letter, "box")
    for match in _SAID.finditer(text, max(0, len(text) - 20_000)):
        chosen: re.Match[str] | None = match
        if _NEGATED.search(text, max(match.start(), match.start(1) - 60), match.start(1)):
            chosen = _BUT.match(text, match.end(1))
        if chosen and not _pronoun(text, chosen) and (best is None or match.start() > best[0]):
            best = (match.start(), chosen[1], "answer is")
    if best:
        return Found(best[1], best[2])
    whole = text.strip()
    letter = choice_of(whole, choices) if choices and len(whole) < 2000 else None
    if letter:
        return Found(letter, "option text")
    letter = letter_of(whole) if len(whole) < 400 else None
    if letter:
        return Found(letter, "whole")
    tail = text[-2000:]
    says = [
        m
        for form in (_SAYS, _IS_RIGHT)
        for m in form.finditer(tail)
        if m[1].isupper() and not _NEGATED.search(tail, max(0, m.start(1) - 60), m.start(1))
    ]
    if says:
        return Found(max(says, key=lambda m: m.start(1))[1], "says")
    anchored = extract.anchored(text, 0, 1)
    for phrase in (anchored.text if anchored else "", whole if len(whole) < 2000 else ""):
        letter = (letter_of(phrase) or choice_of(phrase, choices)) if phrase else None
        if letter:
            return Found(letter, "option text")
    leading = re.match(r"\s*[(*\[]*([A-Z])[)*\]]*\s*(?:[.,:。、]|$)", whole)
    return Found(leading[1], "leading") if leading else None


def _option_stated(text: str, choices: tuple[str, ...]) -> tuple[int, str] | None:
    """Where the last 'answer is' is followed by the whole text of an option, and that option's letter."""
    if not choices:
        return None
    for match in reversed(extract.anchors(text, 0)[-5:]):
        rest = text[match.end() : match.end() + 2000].lstrip(" *:\n")
        for line in (rest.split("\n", 1)[0], rest[: sentence_end(rest)]):
            letter = choice_of(line.strip(" .*"), choices) if len(line.strip()) > 1 else None
            if letter:
                return match.start(), letter
    return None


def _pronoun(text: str, match: re.Match[str]) -> bool:
    """Whether the letter is the word A or I: `I think`, `A triangle`."""
    behind = text[match.end(1) : match.end(1) + 20]
    return match[1] in "AI" and bool(re.match(r"\s+[a-z]+", behind)) and text[match.start(1) - 1] not in "([{"
