"""PURE: which sampling parameters a request to a server carries, and what changes when the server refuses one.

Servers differ in what they accept (see docs/servers.md). A parameter is sent as configured first; where the server refuses it by
name, it is renamed, lowered into its range, or dropped. `Accepted` remembers that for the process, so each refusal costs one
request, and each row records what was really sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from undo_hpc.engines.base import Request

LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
# What a vLLM or SGLang server takes from the model's generation_config.json where a request does not say it.
SERVER_DEFAULTS: dict[str, Any] = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
# Who says so in GET /v1/models (`owned_by`), and which neutral values it accepts.
KNOWN_SERVERS: dict[str, dict[str, Any]] = {
    "vllm": SERVER_DEFAULTS,
    "sglang": SERVER_DEFAULTS,
    "llamacpp": {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
}
_SEED_BITS = 63
_SMALL_SEED_BITS = 31  # Gemini: a signed 32-bit integer

# How a refusal names a parameter.
_SPELLINGS = {
    "seed": r"(?:random_)?seed",
    "temperature": r"temperature",
    "top_p": r"top[_\- ]?p",
    "top_k": r"top[_\- ]?k",
    "min_p": r"min[_\- ]?p",
    "repetition_penalty": r"repetition[_\- ]?penalty",
    "repeat_penalty": r"repeat[_\- ]?penalty",
    "stop": "stop",
    "stop_token_ids": r"stop_token_ids",
    "max_tokens": r"max[_\- ]?(?:new[_\- ]?|output[_\- ]?)?tokens|maximum tokens",
    "max_completion_tokens": r"max[_\- ]?completion[_\- ]?tokens|max[_\- ]?(?:output[_\- ]?)?tokens|completion tokens",
}
_CONTEXT = re.compile(
    r"context[_ ](?:length|size)|maximum context|exceed_context|inputs` tokens|prompt is too long|input is too long|too many input tokens|"
    r"maximum (?:input|sequence) length|longer than the model",
    re.IGNORECASE,
)
_CONTEXT_SIZE = re.compile(
    r"(?:context (?:length|size|window)|must be <=)[^0-9]{0,30}(\d{1,15})(?!\d)", re.IGNORECASE
)
_PROMPT_SIZE = re.compile(
    r"(?<!\d)(\d{1,15}) (?:tokens )?(?:in the messages|(?:text )?input tokens|(?:tokens )?from the input|`inputs` tokens)|"
    r"(?:prompt|input) (?:contains|has)(?: at least)? (\d{1,15})(?!\d)",
    re.IGNORECASE,
)
_BELOW = re.compile(r"(?:less|lower|smaller) than [`'\"]?\d|\(exclusive\)", re.IGNORECASE)
_OF_VALUE = re.compile(
    r"range|less than|greater than|at most|maximum|minimum|between|must be|<=|>=|too (?:large|big|high)|int32|integer|out of|exceed",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Change:
    """One consequence of a refusal. `kind`: drop, rename, at_most, small_seed.

    `value`: the new name (rename), or the largest value that is accepted (at_most).
    """

    kind: str
    name: str
    value: Any = None

    def __str__(self) -> str:
        what = {
            "drop": f"{self.name} is not sent",
            "rename": f"{self.name} is sent as {self.value}",
            "at_most": f"{self.name} is sent as at most {self.value}",
            "small_seed": f"{self.name} is reduced to {_SMALL_SEED_BITS} bits",
        }
        return what[self.kind]


@dataclass
class Accepted:
    """What is known of the server so far: which parameters it takes, under which name, up to which value.

    Attributes:
        dropped: names that are not sent.
        at_most: largest value by name.
        limit_name: `max_tokens` or `max_completion_tokens`.
        neutral: values that are sent although they change nothing, because this server has defaults of its own.
    """

    dropped: set[str] = field(default_factory=set)
    at_most: dict[str, float] = field(default_factory=dict)
    limit_name: str = "max_tokens"
    seed_bits: int = _SEED_BITS
    neutral: dict[str, Any] = field(default_factory=dict)

    def parameters(self, request: Request) -> dict[str, Any]:
        """The sampling parameters of a request as this server takes them. Neutral values (top_p 1, top_k 0) are not sent, except to
        servers that would put a default of their own in their place.
        """
        wanted: dict[str, Any] = dict(self.neutral)
        wanted["seed"] = request.seed % 2**self.seed_bits
        wanted["temperature"] = request.temperature
        if request.top_p < 1:
            wanted["top_p"] = request.top_p
        if request.top_k:
            wanted["top_k"] = request.top_k
        if request.stop:
            wanted["stop"] = list(request.stop)
        wanted[self.limit_name] = request.max_tokens
        for name, most in self.at_most.items():
            if name in wanted:
                wanted[name] = min(wanted[name], most)
        return {name: value for name, value in wanted.items() if name not in self.dropped}

    def apply(self, changes: Iterable[Change]) -> list[Change]:
        """Remembers changes; those that were not known before."""
        new = []
        for change in changes:
            if self._is_known(change):
                continue
            new.append(change)
            if change.kind == "drop":
                self.dropped.add(change.name)
            elif change.kind == "rename":
                self.limit_name = change.value
            elif change.kind == "at_most":
                self.at_most[change.name] = change.value
            else:
                self.seed_bits = _SMALL_SEED_BITS
        return new

    def _is_known(self, change: Change) -> bool:
        return (
            (change.kind == "drop" and change.name in self.dropped)
            or (change.kind == "rename" and change.value == self.limit_name)
            or (change.kind == "at_most" and self.at_most.get(change.name, float("inf")) <= change.value)
            or (change.kind == "small_seed" and self.seed_bits == _SMALL_SEED_BITS)
        )

    def describe(self) -> dict[str, Any]:
        """For the manifest: what the server does not take as it was asked."""
        found: dict[str, Any] = {"not_sent": sorted(self.dropped)} if self.dropped else {}
        found |= {"at_most": dict(self.at_most)} if self.at_most else {}
        found |= {"seed_bits": self.seed_bits} if self.seed_bits != _SEED_BITS else {}
        return found | ({"limit_name": self.limit_name} if self.limit_name != "max_tokens" else {})


def changed(sent: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """A body after a change."""
    body = dict(sent)
    value = body.pop(change.name, None)
    if change.kind == "rename":
        body[change.value] = value
    elif change.kind == "at_most":
        body[change.name] = change.value
    elif change.kind == "small_seed" and isinstance(value, int):
        body[change.name] = value % 2**_SMALL_SEED_BITS
    return body


def is_context_error(text: str) -> bool:
    """Whether a refusal says that prompt and answer do not fit into the model's context: this request's matter, not the server's."""
    return bool(_CONTEXT.search(text))


def context_room(text: str) -> int:
    """New tokens that fit, by the numbers of a context error; 0 where it does not say."""
    text = _plain_numbers(text)
    size, prompt = _CONTEXT_SIZE.search(text), _PROMPT_SIZE.search(text)
    if not size or not prompt:
        return 0
    return max(0, int(size[1]) - int(prompt[1] or prompt[2]))


def changes_for(text: str, sent: Mapping[str, Any]) -> list[Change]:
    """What to change after a refusal with this text; empty where it names none of the parameters sent.

    Args:
        text: the body of the answer.
        sent: sampling parameters of the refused request.
    """
    message, named = _message_and_names(text)
    if "max_tokens" in sent and _wants_other_name(message):
        return [Change("rename", "max_tokens", "max_completion_tokens")]
    found = [name for name in sent if name in _SPELLINGS and _is_named(name, message, named)]
    if {"temperature", "top_p"} <= set(found) and re.search(r"both|only one|either", message, re.I):
        return [Change("drop", "top_p")]
    return [_change(name, sent[name], message) for name in found]


def _change(name: str, value: Any, message: str) -> Change:
    if name == "seed":
        small = isinstance(value, int) and value < 2**_SMALL_SEED_BITS
        return Change("drop", name) if small or not _OF_VALUE.search(message) else Change("small_seed", name)
    most = _largest_below(message, value, whole=name in LIMIT_NAMES)
    is_ranged = name in LIMIT_NAMES or (name == "temperature" and value > 1)
    return Change("at_most", name, most) if is_ranged and most else Change("drop", name)


def _largest_below(message: str, value: Any, *, whole: bool) -> float | int:
    """The bound that a refusal names: its largest number under the value sent; 0 where there is none."""
    if not isinstance(value, int | float) or not _OF_VALUE.search(message):
        return 0
    message = _plain_numbers(message)
    numbers = [float(n) for n in re.findall(r"(?<!\w)(?<!\d\.)\d+(?:\.\d+)?(?!\w)", message)]
    most = max((n for n in numbers if 0 < n < value), default=0.0)
    if not whole:
        return most
    return max(0, int(most) - bool(_BELOW.search(message)))


def _plain_numbers(text: str) -> str:
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)


def _wants_other_name(message: str) -> bool:
    return "max_completion_tokens" in message and bool(
        re.search(r"instead|unsupported|not supported", message, re.I)
    )


def _is_named(name: str, message: str, named: set[str]) -> bool:
    """Whether a refusal is about a parameter: by its fields, where it has such, else by its words. `stop` is too common a word, and
    counts in quotes only.
    """
    pattern = f"(?:{_SPELLINGS[name]})"
    if named:
        return any(re.fullmatch(pattern, other, re.IGNORECASE) for other in named)
    around = "[`'\"]" if name == "stop" else ""
    return bool(re.search(rf"(?<![A-Za-z_]){around}{pattern}{around}(?![A-Za-z_])", message, re.IGNORECASE))


def _message_and_names(text: str) -> tuple[str, set[str]]:
    """The words of a refusal, and the parameters that it names in fields of their own (OpenAI `param`, pydantic `loc`)."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text, set()
    words: list[str] = []
    names: set[str] = set()
    _walk(data, words, names, depth=0)
    return " ".join(words), names


def _walk(data: Any, words: list[str], names: set[str], depth: int) -> None:
    if depth > 12:
        return
    if isinstance(data, dict):
        for key, value in data.items():
            if key == "param" and isinstance(value, str) and value:
                names.add(value)
            elif key == "loc" and isinstance(value, list) and value and isinstance(value[-1], str):
                names.add(value[-1])
            elif key not in ("input", "ctx", "url", "messages"):  # what was sent, as some servers repeat it
                _walk(value, words, names, depth + 1)
    elif isinstance(data, list):
        for value in data[:50]:
            _walk(value, words, names, depth + 1)
    elif isinstance(data, str):
        words.append(data[:4000])
