"""Pushes packages: only what differs from the repository, in one commit a package. Pushing again changes nothing.

An interrupted push continues where it stopped: large files that have arrived are not sent again, and finished commits are found. The token is
read when it is needed and stays in memory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from undo_hpc.config.schema import HubConfig
from undo_hpc.errors import ConfigError, UndoError
from undo_hpc.hub.contents import Item, Package, packages
from undo_hpc.hub.refusals import HubError, explain, patiently
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import write_json
from undo_hpc.storage.reading import finite, read_fast
from undo_hpc.system.credentials import hub_token
from undo_hpc.system.data_files import expanded

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass
class Pushed:
    """What a push did: files sent, files that were there already, and the repositories' addresses."""

    sent: int = 0
    same: int = 0
    bytes: int = 0
    urls: list[str] = field(default_factory=list)


def read_token(hub: HubConfig) -> str | None:
    """The token of `hub.token_file`; None leaves it to huggingface_hub (HF_TOKEN, HF_TOKEN_PATH, the login's own).

    Raises:
        ConfigError: the file cannot be read, or there is no token at all.
    """
    if hub.token_file:
        try:
            token = expanded(hub.token_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"hub.token_file: cannot read {hub.token_file}: {getattr(error, 'strerror', 'it is not a text file')}",
                hint="fix the path, or set HF_TOKEN",
            ) from error
        if not token:
            raise ConfigError(
                f"hub.token_file: {hub.token_file} is empty", hint="put the token there, or set HF_TOKEN"
            )
        return token
    from huggingface_hub import get_token

    if not get_token():
        raise ConfigError(
            "there is no Hub token",
            hint="`hf auth login`, or set HF_TOKEN, or hub.token_file (a file that only you can read)",
        )
    return None


def push(run: Run, wait: Callable[[float], None] = time.sleep) -> Pushed:
    """Publishes what is complete.

    Args:
        run: the run.
        wait: sleeps so many seconds before a request that the Hub asks to make later.

    Raises:
        ConfigError: no repository is named, its name is none, or there is no token.
        DataError, EvidenceError: a file is not what was made (see `packages`); nothing was sent.
        HubError: the Hub cannot be reached or refuses; what was sent stays, and the same command continues.
    """
    hub = run.config.hub
    if not hub.dataset_repo and not hub.model_repo:
        raise ConfigError(
            "no repository is named",
            hint="--dataset-repo me/my-data --model-repo me/my-student (or hub.dataset_repo and hub.model_repo in the configuration)",
        )
    found = packages(run)
    token = read_token(hub)
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.endpoint or None, token=token)
    done = Pushed()
    ready: set[tuple[str, str]] = set()  # a data set and a model of one name are two repositories
    for package in found:
        try:
            if (package.kind, package.repo) not in ready:
                url = patiently(partial(_repository, api, package, hub.private), wait)
                done.urls.append(url)
                ready.add((package.kind, package.repo))
            patiently(partial(_push_package, api, run, package, done), wait)
        except UndoError:
            raise
        except Exception as error:
            raise explain(error, hub, package.repo, token or hub_token()) from error
    write_json(run.layout.pushed, _read_ledger(run) | {"time": time.time(), "urls": done.urls})
    run.events.append("pushed", sent=done.sent, same=done.same, bytes=done.bytes)
    return done


def _repository(api: HfApi, package: Package, private: bool) -> str:
    """Makes the repository where there is none; refuses to put private things into a public one."""
    url = api.create_repo(package.repo, repo_type=package.kind, private=private, exist_ok=True)
    info = api.repo_info(package.repo, repo_type=package.kind)
    if private and not info.private:
        raise HubError(
            f"{package.repo} is public, and hub.private is on; nothing was pushed to it",
            hint="make the repository private on the Hub, or set hub.private=false to publish",
        )
    return str(url)


def _push_package(api: HfApi, run: Run, package: Package, done: Pushed) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    remote = _remote(api, package)
    fresh = [item for item in package.items if not _same(item, remote.get(item.path))]
    ours = _read_ledger(run)["files"].get(f"{package.kind}:{package.repo}", [])
    # Weights of an earlier student that this one does not have (other shards); nothing that we did not put there.
    stale = (
        sorted(set(ours) & set(remote) - {item.path for item in package.items})
        if package.kind == "model"
        else []
    )
    done.same += len(package.items) - len(fresh)
    if not fresh and not stale:
        return
    size = sum(item.size for item in fresh)
    log.info(f"{package.repo}: {package.message}, {len(fresh)} files, {size / 1e6:,.1f} MB")
    operations: list[Any] = [
        CommitOperationAdd(item.path, str(item.local) if item.local else item.data) for item in fresh
    ]
    operations += [CommitOperationDelete(path) for path in stale]
    api.create_commit(package.repo, operations, commit_message=package.message, repo_type=package.kind)
    done.sent += len(fresh)
    done.bytes += size
    ledger = _read_ledger(run)
    files = ledger["files"]
    key = f"{package.kind}:{package.repo}"
    kept = set(files.get(key, [])) - set(stale) | {item.path for item in package.items}
    files[key] = sorted(kept)
    write_json(run.layout.pushed, ledger)


def _remote(api: HfApi, package: Package) -> dict[str, Any]:
    """Files of the repository, by path."""
    from huggingface_hub.hf_api import RepoFile

    tree = api.list_repo_tree(package.repo, recursive=True, repo_type=package.kind)
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _same(item: Item, remote: Any) -> bool:
    if remote is None or remote.size != item.size:
        return False
    if remote.lfs is not None:
        return bool(remote.lfs.sha256 == item.sha256)
    return bool(remote.blob_id == item.git_sha1())


def _read_ledger(run: Run) -> dict[str, Any]:
    """What was pushed so far: `time`, `urls`, and the `files` of each repository. What is damaged counts as not pushed."""
    data = read_fast(run.layout.pushed) or {}
    files = data.get("files")
    files = files if isinstance(files, dict) else {}
    kept = {
        key: [name for name in names if isinstance(name, str)]
        for key, names in files.items()
        if isinstance(names, list)
    }
    return data | {"files": kept}


def last_push(run: Run) -> float:
    """When the last push was complete; 0 for never."""
    return finite(_read_ledger(run), "time")
