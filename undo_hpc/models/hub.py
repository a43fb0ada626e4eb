"""What the Hub says of a model, asked before anything is submitted."""

from __future__ import annotations

import os
import re
from typing import Any

from undo_hpc.errors import DataError

_ETAG = re.compile(r"[^./\\\s\0-\x1f\x7f][^/\\\s\0-\x1f\x7f]{0,199}")  # mirrors have many forms of them
_COMMIT = re.compile(r"[0-9A-Za-z_-]{1,64}")


def refuse_odd_names() -> None:
    """From here on huggingface_hub takes no ETag and no commit from a server that is no plain name: it names files and folders of its cache by
    them, so that a server (a mirror that HF_ENDPOINT names) could have files of ours read, and others written, elsewhere. Before whatever
    downloads."""
    from huggingface_hub import file_download, hf_api, set_client_factory
    from huggingface_hub.utils import _http

    ask = (
        file_download._get_metadata_or_catch_error
    )  # what it gives names the files, by whatever answer it was told
    if getattr(ask, "asks", False):
        return

    def plain(**what: Any) -> Any:
        if {"", ".."} & set(
            what["revision"].split("/")
        ):  # it may be that of a pull request, which the server names
            raise _odd(what["revision"], "revision")
        found = ask(**what)
        _plain(found[1], _ETAG, "ETag")
        _plain(found[2], _COMMIT, "commit")
        return found

    plain.asks = True  # type: ignore[attr-defined]
    file_download._get_metadata_or_catch_error = plain
    make = _http._GLOBAL_CLIENT_FACTORY

    def client() -> Any:
        made = make()
        made.event_hooks = made.event_hooks | {
            "response": [*made.event_hooks["response"], _require_plain_commit]
        }
        return made

    set_client_factory(client)
    # transformers asks the Hub for a pull request with safetensors, and a server of others to make one; it loads nothing of it now.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    for kind in (hf_api.ModelInfo, hf_api.DatasetInfo, hf_api.SpaceInfo):
        _require_plain_sha(kind)


def _require_plain_sha(kind: Any) -> None:
    """What the Hub's JSON says of a repository: its commit names folders, too."""
    init = kind.__init__

    def checked(self: Any, **values: Any) -> None:
        init(self, **values)
        _plain(self.sha, _COMMIT, "sha")

    kind.__init__ = checked


def _require_plain_commit(response: Any) -> None:
    _plain(response.headers.get("X-Repo-Commit"), _COMMIT, "X-Repo-Commit")


def _plain(name: str | None, form: re.Pattern[str], what: str) -> str | None:
    if name and not form.fullmatch(name):
        raise _odd(name, what)
    return name


def _odd(name: str, what: str) -> DataError:
    return DataError(
        f"the Hub's answer names a file {name[:100]!r} ({what}), which is no plain name",
        hint="is the server that HF_ENDPOINT names to be trusted?",
    )


def check_hub_model(name: str, revision: str = "") -> None:
    """Asks the Hub for a model's config.json, unless it lies in the cache already.

    A Hub that cannot be reached (a node without a network, HF_HUB_OFFLINE) is no reason to refuse.

    Raises:
        DataError: the Hub says that there is no such model or revision, or that it is gated and this token has no access.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        if isinstance(try_to_load_from_cache(name, "config.json", revision=revision or None), str):
            return
        get_hf_file_metadata(hf_hub_url(name, "config.json", revision=revision or None), timeout=20)
    except GatedRepoError as error:
        raise DataError(
            f"{name} is gated, and this token has no access to it",
            hint="ask for access on its page, then `hf auth login`",
        ) from error
    except RevisionNotFoundError as error:
        hint = "check the `revision` of the model"
        raise DataError(f"{name} has no revision {revision!r} on the Hub", hint=hint) from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"there is no model {name} on the Hub, or it is private",
            hint="check the name; a private one needs `hf auth login`",
        ) from error
    except EntryNotFoundError as error:
        raise DataError(
            f"{name} on the Hub has no config.json",
            hint="name a model in transformers' format (not GGUF, not an adapter)",
        ) from error
    except HFValidationError as error:
        raise DataError(
            f"{name} is neither a folder nor an id on the Hub", hint="an id reads like 'owner/name'"
        ) from error
    except HfHubHTTPError:
        return  # it answers, but not now
    except Exception as error:
        if not unreachable(error):
            raise


def unreachable(error: Exception) -> bool:
    """Whether the error says that the Hub cannot be reached; the HTTP client beneath huggingface_hub has changed its name."""
    transport = any(
        base.__name__ == "HTTPError" and base.__module__.startswith("httpx") for base in type(error).__mro__
    )
    return transport or isinstance(error, ConnectionError | TimeoutError)
