r"""Multiple choice: `C`, `(C)`, `C: text`, `\textbf{(C)}\ 12`, or the text of the option."""

from __future__ import annotations

import re

from undo_hpc.grading import extract, words
from undo_hpc.grading.extract import Found
from undo_hpc.grading.lookalikes import unify
from undo_hpc.grading.reasoning import last_answer, visible
from undo_hpc.grading.tokens import prepare

_GAP = r"(?:\s|\\[:;,! ]|\\q?quad|~)*"
_COMMANDS = re.compile(r"\\(?:text(?:bf|rm|it|sf)?|mathrm|mathbf|mbox|boldsymbol|bf|rm)\s*\{?|\\[:;,! ]|\\q?quad|~|[{}$]")  # fmt: skip
_FORM = re.compile(r"(?:(?i:option|choice|answer)\s*)?(?:\(\s*([A-Za-z])\s*\)|[(\[{]{0,2}\s*([A-Z])\s*[)\]}]{0,2}\s*(?=[).:,\-]|$))", re.DOTALL)  # fmt: skip
# What stands behind a letter where a second one follows: `B, C`, `(B) and (C)`.
_SECOND = r"[)}\]*\s]{0,6}(?:[,;&]|and|or|\s){1,8}[(*\s]{0,6}[A-Z][)}\]*\s.]{0,6}(?:[,;&\n]|and\b|or\b|$)"
_SAID = re.compile(
    r"(?i:answer|choice|option|réponse|respuesta|antwort|故?选(?:择|项)?|答案|答|正解|정답|답|ответ)\s*(?:\*\*)?"
    r"[^A-Z\n\d$\\<>=()\[\]{}]{0,40}?[(\[{]{0,2}(?:\\text(?:bf)?\{)?\(?\s*(?<![A-Za-z])([A-Z])"
    rf"(?![a-zA-Z'+*/^=_(]|\s*[-+*/^=<>]|\s+(?!because|since)[a-z]{{2,}}\s+[a-z])(?!{_SECOND})"
)
_NEGATED = re.compile(r"(?:\bnot|\bcannot|n't|\bneither|\bnever)\s+(?:be\s+)?(?:(?:option|choice)\s+)?[(*\[]*$", re.IGNORECASE)  # fmt: skip
_BUT = re.compile(r"[)\]*.,;\s]*(?:but|rather|instead|it(?:'s|\s+is))\s+(?:rather\s+|instead\s+)?(?:(?:option|choice)\s+)?[(*\[]*([A-Z])\b")  # fmt: skip
_CONCLUDES = re.compile(  # `(B) is correct`, or `so it is B.`
    r"(?:(?i:option|choice|answer|statement)\s+|(?<![A-Za-z]))[*(\[]*([A-Z])[)\]*.]*\s+is\s+(?:the\s+)?(?:only\s+|most\s+)?"
    r"(?:correct|right|best|true|one|option|choice)\b(?!\s*\?|\s+(?:at first|only|if|when))"
    r"|(?i:it's|it is|is|be|choose|pick|select|therefore|thus|so|hence)\s*:?\s*(?i:option|choice)?\s*"
    r"[*(\[]*([A-Z])\b[)\]*]*(?=\s*(?:[.,;!—–]|-|$|\n))"
)
_OPTION = re.compile(
    rf"[\s$]*(?:\\(?:text(?:bf|rm)?|mathrm|mathbf)\s*\{{?\s*)?[({{\[]+\s*([A-J])\s*[)}}\]]+\s*[.:]?\s*\}}?{_GAP}"
    r"(?=[A-Za-z0-9$\\.-])(?!\\(?:cup|cap|times|cdot|in|text\s*\{\s*(?:and|or))|(?:and|or)\b)(.+)",
    re.DOTALL,
)


def bare(text: str) -> str:
    """An answer without delimiters and text commands, so that a letter stands alone."""
    return " ".join(_COMMANDS.sub(" ", prepare(unify(text[:2000]))).split()).strip(" .*")


def option(text: str) -> tuple[str, str] | None:
    r"""(letter, value) of an answer that gives both, such as `\textbf{(D)}\ 13`."""
    found = _OPTION.match(unify(text[:2000]))
    value = found[2].strip().rstrip("$").strip() if found else ""
    return (found[1], value) if found and value.strip(" }.") else None


def several(gold: str, pred: str) -> bool:
    """Whether both answers choose the same several letters: `BD`, and `B, D` or `B and D`."""
    chosen = [re.sub(r"[(),;&.\s]|\band\b", "", bare(text)) for text in (gold, pred)]
    wanted = re.fullmatch(r"[A-J]{2,6}", chosen[0]) and list(chosen[0]) == sorted(set(chosen[0]))
    return bool(wanted) and chosen[0] == chosen[1]


def letter_of(text: str) -> str | None:
    r"""The letter that an answer gives: `C`, `(c)`, `\text{(C)}\ 12`, `C: because`; None where it is no such thing."""
    plain = bare(text)
    single = re.sub(r"[\s()\[\].:*]", "", plain)
    if re.fullmatch("[A-Ta-t]", single):
        return single.upper()
    match = _FORM.match(plain)
    rest = plain[match.end() :].lstrip(")}]* ") if match else ""
    if not match or re.match(_SECOND, plain[match.end() :]) or rest[:1] in tuple("*/+=^_<>!'"):
        return None
    return (match[1] or match[2]).upper()


def gold_letter(gold: str, count: int) -> str | None:
    """The letter of the gold answer: `C`, `(C)`, `C Cecile`, or the last line that begins with `(C)`."""
    found = letter_of(gold)
    if found and (not count or ord(found) - 65 < count):
        return found
    lines = re.findall(r"(?m)^\s*\(([A-Z])\)\s", gold[:2000])
    match = re.fullmatch(r"\(?\s*([A-Z])\s*\)?\s*(?:[).:\n,-]\s*|\s+)([A-Za-z].*)", bare(gold), re.DOTALL)
    return lines[-1] if lines else match[1] if match else None


def choice_of(text: str, choices: tuple[str, ...]) -> str | None:
    """The letter of the one option whose text this is, or None."""
    plain = prepare(unify(text[:2000]))
    wanted = re.sub(r"[\s{}]", "", plain)
    if not wanted or re.fullmatch(r"\(?[A-Z]\)?\.?", wanted):
        return None  # a letter is the option's letter before it is an option's text
    said = words.plain(text)
    exact = [re.sub(r"[\s{}]", "", prepare(unify(choice))) == wanted for choice in choices]
    signs = re.search(r"[=<>^*/\\]|\d\s*-", plain)
    loose = [bool(said) and not signs and words.plain(choice) == said for choice in choices]
    return next((chr(65 + hits.index(True)) for hits in (exact, loose) if sum(hits) == 1), None)


def find_letter(text: str, choices: tuple[str, ...]) -> Found | None:
    """The letter that a prediction chooses: the last of box and 'answer is', then an option's text, then the closing sentence."""
    text = visible(text)
    whole, tail, box = text.strip(), text[-2000:], last_answer(text)
    best: tuple[int, str, str] | None = None
    if box and (letter := choice_of(box.content, choices) or letter_of(box.content)):
        best = (box.start, letter, "box")
    for match in extract.anchors(text, box.end if box else 0)[-5:] if choices else ():
        rest = text[match.end() : match.end() + 2000].lstrip(" *:\n")
        for line in (rest.split("\n", 1)[0], rest[: extract.sentence_end(rest)]):
            if letter := choice_of(line.strip(" *").rstrip(" .*"), choices):
                best = (len(text), letter, "option text")
    for match in _SAID.finditer(text, max(0, len(text) - 20_000)):
        chosen = _BUT.match(text, match.end(1)) if _negated(text, match.start(1)) else match
        # the letter may be the word A or I: `I think`, `A triangle`
        pronoun = chosen and chosen[1] in "AI" and re.compile(r"\s+[a-z]").match(text, chosen.end(1))
        word = pronoun and text[chosen.start(1) - 1] not in "([{"  # type: ignore[union-attr]
        if chosen and not word and (best is None or match.start() > best[0]):
            best = (match.start(), chosen[1], "answer is")
    if best:
        return Found(*best[1:])
    short = len(whole) < 2000
    if short and (letter := choice_of(whole, choices) or (letter_of(whole) if len(whole) < 400 else None)):
        return Found(letter, "whole")
    concluding = ((m[m.lastindex or 0], m.start(m.lastindex or 0)) for m in _CONCLUDES.finditer(tail))
    said = [letter for letter, at in concluding if not _negated(tail, at)]
    if said:
        return Found(said[-1], "says")
    anchored = extract.anchored(text, 0, 1)
    if anchored and (letter := letter_of(anchored.text) or choice_of(anchored.text, choices)):
        return Found(letter, "option text")
    leading = re.match(r"[(*\[]*([A-Z])[)*\]]*\s*(?:[.,:。、]|$)", whole)
    return Found(leading[1], "leading") if leading else None


def _negated(text: str, at: int) -> bool:
    """Whether the letter here is said to be wrong."""
    return bool(_NEGATED.search(text, max(0, at - 60), at))
