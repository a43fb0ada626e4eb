"""What the Hub refuses, in its own words; and how long is waited where it asks to come again. Never a token, never a traceback."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

from undo_hpc.config.schema import HubConfig
from undo_hpc.errors import ConfigError, ExitCode, UndoError
from undo_hpc.models.hub import unreachable
from undo_hpc.system.credentials import redacted

log = logging.getLogger(__name__)

T = TypeVar("T")
# Come again: timed out, another commit came first (409, 412), too many requests, a server that is busy or restarts.
_AGAIN = (408, 409, 412, 425, 429, 500, 502, 503, 504)
_TRIES = 6
_MAX_WAIT_S = (
    330.0  # in one go; the Hub counts requests in windows of 300 s (huggingface.co/docs/hub/rate-limits)
)
_MAX_TOTAL_S = 600.0
_TOKEN = re.compile(r"hf_\w+|Bearer\s+\S+")
_CONTINUE = "then: undo-hpc push RUN_DIR; it continues where it stopped"


class HubError(UndoError):
    """The Hub cannot be reached, or refuses. Nothing of the run is touched by it."""

    exit_code = ExitCode.INCOMPLETE


def patiently(act: Callable[[], T], wait: Callable[[float], None]) -> T:
    """`act()`, again after a wait where the Hub asks for it (429, 412, 503, 504 and their like): at most six times and ten minutes.

    Raises what `act` raises: the last time, or where trying again is no use.
    """
    waited = 0.0
    for number in range(_TRIES - 1):
        try:
            return act()
        except Exception as error:
            status = _status(error)
            seconds = _wait_of(error, number)
            if status not in _AGAIN or seconds > _MAX_WAIT_S or waited + seconds > _MAX_TOTAL_S:
                raise
        log.info("the Hub answered %d: trying again in %.0f s", status, seconds)
        wait(seconds)
        waited += seconds
    return act()


def _status(error: Exception) -> int:
    """The HTTP status behind an error; 503 for an answer that should have been JSON (a proxy's page); 0 where there is none."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return int(error.response.status_code) if error.response is not None else 0
    return 503 if _is_no_json(error) else 0


def _is_no_json(error: Exception) -> bool:
    return isinstance(error, ValueError) and type(error).__name__ == "JSONDecodeError"


def _met_in_an_answer(error: Exception) -> bool:
    """Whether huggingface_hub's own lines met other values in an answer than they expect there (a mirror, a proxy's JSON)."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    module = at.tb_frame.f_globals.get("__name__", "") if at is not None else ""
    return isinstance(error, LookupError | TypeError | AttributeError) and module.startswith(
        "huggingface_hub."
    )


def _wait_of(error: Exception, number: int) -> float:
    """Seconds to wait: as the answer says (Retry-After, RateLimit), else 1, 2, 4 and so on."""
    response = getattr(error, "response", None)
    headers: Any = response.headers if response is not None else {}
    if (said := str(headers.get("retry-after", "")).strip()).isdecimal():
        return float(said) + 1
    if found := re.search(r"\bt\s*=\s*(\d+)", str(headers.get("ratelimit", ""))):
        return float(found[1]) + 1
    return float(2**number)


def explain(error: Exception, hub: HubConfig, repo: str, token: str = "") -> UndoError:
    """What went wrong at the Hub while `repo` was pushed. An error that is none of the Hub's is raised as it is: bugs are not dressed up.

    Args:
        token: what was sent, which a Hub may repeat: it is taken out of its words.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    where = redacted(hub.endpoint or os.environ.get("HF_ENDPOINT") or "the Hugging Face Hub")
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(
            "HF_HUB_OFFLINE is set: nothing was pushed",
            hint=f"push from a machine with a network, without HF_HUB_OFFLINE; {_CONTINUE}",
        )
    if isinstance(error, HFValidationError):
        return ConfigError(
            f"{repo!r} is no name of a repository: {_words(error, token)}", hint="write it as account/name"
        )
    if isinstance(error, ValueError) and "Invalid metadata" in str(error):
        return HubError(
            f"{where} refuses the card of {repo}: {_words(error, token)}",
            hint=f"the card tells licence (data.train.licence), parent (student.model) and repositories (hub.*): fix what is named; {_CONTINUE}",
        )
    if isinstance(error, HfHubHTTPError):
        return _of_status(error, where, repo, token)
    if unreachable(error):
        return HubError(
            f"{where} cannot be reached ({type(error).__name__})", hint=f"check the network; {_CONTINUE}"
        )
    if _is_no_json(error) or _met_in_an_answer(error):
        return HubError(
            f"{where} answered in a way that cannot be read",
            hint=f"check hub.endpoint and proxies; {_CONTINUE}",
        )
    if isinstance(error, RuntimeError) and re.search(
        r"\b(CAS|Xet|xet|Data processing error)\b", str(error)
    ):  # hf_xet's uploads
        return HubError(
            f"the push broke off: {_words(error, token)}",
            hint=f"HF_HUB_DISABLE_XET=1 uploads in another way; {_CONTINUE}",
        )
    if isinstance(error, OSError):
        return HubError(f"the push broke off: {error.strerror or type(error).__name__}", hint=_CONTINUE)
    raise error


def _of_status(error: Any, where: str, repo: str, token: str) -> HubError:
    status, words = _status(error), _words(error, token)
    told = f": {words}" if words else ""
    if status == 401:
        return HubError(
            f"{where} does not know this token (401)",
            hint=f"`hf auth login` again, or renew the token; {_CONTINUE}",
        )
    if status == 403:
        return HubError(
            f"this token may not write to {repo} (403){told}",
            hint=f"give a token with write rights to that account or organisation; {_CONTINUE}",
        )
    if status == 404:
        return HubError(
            f"{repo}: no such place on {where} (404)",
            hint="check the account or organisation before the slash",
        )
    if status in (402, 413, 507):
        return HubError(
            f"the storage at {where} is full, or the file is too large ({status}){told}",
            hint=f"free storage there; {_CONTINUE}",
        )
    when = "try again later" if status in _AGAIN else "fix what it names"
    return HubError(
        f"{where} answered {status or 'in a way that cannot be read'} for {repo}{told}",
        hint=f"{when}, {_CONTINUE}",
    )


def _words(error: Exception, token: str) -> str:
    """The Hub's own words in one line, without tokens, addresses of requests and phrases that say nothing."""
    text = redacted(str(getattr(error, "server_message", None) or error), token)
    lines = [line.strip(" -") for line in text.splitlines()]
    useful = [
        line
        for line in lines
        if line and not re.match(r"(Client|Server) error|For more information|\(Request ID", line)
    ]
    return _TOKEN.sub("...", "; ".join(useful))[:500]
