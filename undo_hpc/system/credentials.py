"""Secrets where none belong: what is written into a configuration is copied into the run's files, and may be published.

Two functions: `credential_in` names what a text seems to hold, for refusals; `redacted` replaces it, for texts of others that are
shown or recorded. The forms are those that the providers document for their keys.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

_HIDDEN = "***"
_NAMES = (
    r"(?:[a-z0-9]+(?:[-_]|%2d|%5f))*(?:api(?:[-_]|%2d|%5f)?key|access(?:[-_]|%2d|%5f)?key|token|secret|password|passwd|passphrase"
    r"|subscription(?:[-_]|%2d|%5f)key|sig|signature)"
)
_FORMS = (
    # A password may hold what ends an address; a number before a slash is a port. (The lengths that are read have limits, and nothing
    # is read twice, `++`: a long text of others is searched in time that grows with its length, not with its square.)
    (
        "a user name or password in an address",
        re.compile(r"(?<=://)(?:[^\s/@?#]++|[^\s/@?#:\[]++:(?!\d+(?:[/?#\s]|$))[^\s@]{1,1000}+)(?=@)"),
    ),
    (
        "a key in the query of an address",
        re.compile(
            rf"(?<=[?&;#])(?:{_NAMES}|key|code|pwd|pass|auth|jwt|bearer|credentials?)=[^\s&#\"']+",
            re.IGNORECASE,
        ),
    ),
    (
        "a key or token",
        re.compile(
            r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
            r"|AIza[\w-]{30,}|A(?:KIA|SIA)[A-Z0-9]{16}|xox[abprs]-[\w-]{10,}|glpat-[\w-]{16,}|(?:gsk|r8|sk_live|rk_live)_[A-Za-z0-9]{20,}"
            r"|(?:nvapi|xai|pplx|csk)-[\w-]{20,}|eyJ[\w-]{8,4000}+\.eyJ[\w-]{5,}\.[\w-]+)"
        ),
    ),
    (
        "a key in a command",
        re.compile(
            r"(?:(?<=--token[ =])|(?<=--api-key[ =])|(?<=--password[ =])|(?<=wandb login ))(?![$<-])[^\s'\"]{8,}"
            r"|(?:(?<= -u )|(?<=--user[ =]))(?![$<])[^\s:$]+:(?!\d+\b)[^\s$]+"
        ),
    ),
    (
        "a key in a header",
        re.compile(r"(?:(?<=bearer )|(?<=authorization: basic ))[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE),
    ),
)
_KEY = re.compile(
    rf"{_NAMES}|\w*(?:api_?key|token|secret|password)|authorization|credentials?", re.IGNORECASE
)
_OF_A_TOKENIZER = re.compile(
    r"\w*(?:bos|eos|pad|unk|sep|cls|mask|stop|end|start|image|video|audio)_?token", re.IGNORECASE
)
_EMPTY = re.compile(
    r"(?:none|empty|dummy|null|false)?", re.IGNORECASE
)  # values that some servers want for "no key"


def credential_in(text: str) -> str:
    """What secret a text seems to hold, such as "a key or token"; empty where there is none."""
    return next((what for what, form in _FORMS if form.search(text) or form.search(unquote(text))), "")


def credentials_of(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each place of a nested mapping that seems to hold a secret, by its value or by the name of its key, and what it is."""
    if isinstance(data, dict):
        for name, value in data.items():
            here = (*path, str(name))
            if isinstance(value, str) and _is_key(str(name)) and not _EMPTY.fullmatch(value.strip()):
                yield here, "a key or password"
            else:
                yield from credentials_of(value, here)
    elif isinstance(data, list):
        for item in data:
            yield from credentials_of(item, path)
    elif isinstance(data, str) and (what := credential_in(data)):
        yield path, what


def _is_key(name: str) -> bool:
    return bool(_KEY.fullmatch(name)) and not _OF_A_TOKENIZER.fullmatch(name)


def redacted(text: str, *known: str) -> str:
    """A text of others with what looks like a secret, and each secret in `known`, replaced by three stars."""
    text = without([secret for secret in known if len(secret) >= 4], text)
    for _, form in _FORMS:
        text = form.sub(_HIDDEN, text)
    return text


def without(secrets: Sequence[str], text: str) -> str:
    """A server's words with each secret replaced by three stars, also where it is spelled as JSON, addresses or HTML may spell it."""
    return (
        spelled(*secrets).sub(b"***", text.encode(errors="surrogatepass")).decode(errors="surrogatepass")
        if secrets
        else text
    )


@functools.lru_cache(maxsize=8)
def spelled(*secrets: str) -> re.Pattern[bytes]:
    """Every spelling of the secrets: each of their characters as it is, or as an escape of JSON (\\u0073), an address (%73) or HTML."""

    def forms(c: str) -> str:
        return rf"(?:{re.escape(c)}|\\{{1,2}}(?:{re.escape(c)}|(?i:u{ord(c):04x}))|(?i:%{ord(c):02x}|&#0{{0,5}}{ord(c)};|&#x0{{0,5}}{ord(c):x};))"

    return re.compile("|".join("".join(map(forms, secret)) for secret in secrets).encode())


def hub_token() -> str:
    """The Hub's token that this process may have sent, which a Hub may repeat; empty where huggingface_hub was not needed yet."""
    hub = sys.modules.get("huggingface_hub")
    return (hub.get_token() or "") if hub else ""
