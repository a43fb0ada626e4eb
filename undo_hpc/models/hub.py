"""What the Hub says of a model, asked before anything is submitted."""

from __future__ import annotations

from undo_hpc.errors import DataError


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
