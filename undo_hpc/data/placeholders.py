"""Texts that stand for a missing answer. Pure.

Data sets write them where there is no final answer (NuminaMath-1.5: `proof`, `notfound`), and programs where a cell was empty (`None`,
`NaN`, `<NA>`). Taken for ground truths they would be learned and graded as if they were answers.
"""

from __future__ import annotations

import re

from undo_hpc.records import AnswerKind

# What programs write for an empty cell (pandas, SQL, Excel, Java); no answer of any kind is meant by these.
_EMPTY_CELL = {
    "nan", "null", "n/a", "<na>", "null!", "value!", "ref!", "div/0!", "name?", "num!", "<null>", "(null)", "\\n", "<none>", "[none]",
    "<unknown>", "[unknown]", "<unk>", "[missing]", "<answer>", "[answer]", "notfound", "noanswer",
}  # fmt: skip
# Words that could be the answer to a question whose answer is a text, but never a number, an expression or a letter.
_WORDS = {
    "none", "nil", "nat", "proof", "not found", "unknown", "unk", "missing", "tbd", "tba", "todo", "pending", "omitted", "see solution", "no answer",
    "not available", "unavailable", "not applicable", "not provided", "not given", "no ground truth",
    "n.a.", "n.a", "-", "--", "---", "?", "??", "???", "...", "…", "–", "—", "_",
}  # fmt: skip
_MARK = re.compile(r"[a-zA-Z]{2,}([_-][a-zA-Z]{2,})+")
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox|boxed|operatorname)\s*\{([^{}]*)\}")


def is_placeholder(text: str, kind: AnswerKind = "auto") -> bool:
    r"""Whether a text stands for no answer. `\text{Proof}.` and "N/A" are read like proof and N/A.

    Args:
        text: what stands in the field.
        kind: the kind of answer; where it is `text`, only marks of an empty cell count, for `unknown` may be an answer.
    """
    if len(text) > 60 or text.isdigit():
        return False
    if _MARK.fullmatch(text.strip()):  # not_found, no-answer
        text = re.sub("[_-]", " ", text)
    bare = _WRAPPED.sub(r"\1", text).replace("$", "").strip().strip("\"'`*#").strip()
    word = bare.casefold()
    plain = word.rstrip(".!").strip() or word
    if not word or word in _EMPTY_CELL or plain in _EMPTY_CELL:  # nothing: `\boxed{}`, `$$`, `""`
        return True
    if kind == "text":
        return False
    return bare in ("NA", "na") or word in _WORDS or plain in _WORDS
