"""Names that a Hub's answers give to files are plain ones, in each process of ours.

huggingface_hub names files and folders of its cache by what a server says: ETags, commits, revisions of pull requests. A server (a mirror
that HF_ENDPOINT names) could have files of ours read, and others written, anywhere. Importing `undo_hpc` puts guards behind the import of
the modules that matter, so that no door is without them, and none loads huggingface_hub for their sake.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_ETAG = re.compile(r"[^./\\\s\0-\x1f\x7f][^/\\\s\0-\x1f\x7f]{0,199}")  # mirrors have many forms of them
_COMMIT = re.compile(r"[0-9A-Za-z_-]{1,64}")


def guard_names() -> None:
    """From here on, in this process; a second time it changes nothing."""
    # transformers asks the Hub for a pull request with safetensors, and a server of others to make one; it loads nothing of it now.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    if any(isinstance(finder, _Guarded) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Guarded())
    for name, guard in _GUARDS.items():
        if name in sys.modules:
            guard(sys.modules[name])


class _Guarded:
    """Finds the modules as Python does, and puts the guard behind their first execution."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _GUARDS:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((found for found in others if found is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def guarded(module: ModuleType) -> None:
                execute(module)
                _GUARDS[name](module)

            spec.loader.exec_module = guarded  # type: ignore[method-assign]
        return spec


def _downloads(module: Any) -> None:
    """What this function gives names the files, by whatever answer it was told."""
    ask = module._get_metadata_or_catch_error

    def plain(**what: Any) -> Any:
        if {"", ".."} & set(str(what["revision"]).split("/")):
            raise _odd(what["revision"], "revision")
        found = ask(**what)
        _plain(found[1], _ETAG, "ETag")
        _plain(found[2], _COMMIT, "commit")
        return found

    module._get_metadata_or_catch_error = plain


def _repositories(module: Any) -> None:
    """What the Hub's JSON says of a repository: its commit names folders, too."""
    for kind in (module.ModelInfo, module.DatasetInfo, module.SpaceInfo):
        _with_plain_sha(kind)


def _with_plain_sha(kind: Any) -> None:
    init = kind.__init__

    def checked(self: Any, **values: Any) -> None:
        init(self, **values)
        _plain(self.sha, _COMMIT, "sha")

    kind.__init__ = checked


def _answers(module: Any) -> None:
    """That there is no such file is noted below the commit of the answer's head."""
    make = module._GLOBAL_CLIENT_FACTORY

    def client() -> Any:
        made = make()
        hooks = made.event_hooks
        made.event_hooks = hooks | {"response": [*hooks["response"], _require_plain_commit]}
        return made

    module.set_client_factory(client)


def _agents(module: Any) -> None:
    """The first request asks the server for a list of coding agents, and what it says is believed: of another shape it ends the process."""
    module.detect_agent = lambda: None


_GUARDS: dict[str, Callable[[Any], None]] = {
    "huggingface_hub.file_download": _downloads,
    "huggingface_hub.hf_api": _repositories,
    "huggingface_hub.utils._http": _answers,
    "huggingface_hub.utils._detect_agent": _agents,
}


def _require_plain_commit(response: Any) -> None:
    _plain(response.headers.get("X-Repo-Commit"), _COMMIT, "X-Repo-Commit")


def _plain(name: Any, form: re.Pattern[str], what: str) -> None:
    if name and not (isinstance(name, str) and form.fullmatch(name)):
        raise _odd(name, what)


def _odd(name: Any, what: str) -> Exception:
    from undo_hpc.errors import DataError

    return DataError(
        f"the Hub's answer names a file {str(name)[:100]!r} ({what}), which is no plain name",
        hint="is the server that HF_ENDPOINT names to be trusted?",
    )
