"""The key for an OpenAI-compatible server: what clients send, and what the run's own servers ask for."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from undo_hpc.errors import ConfigError, EngineError
from undo_hpc.storage.atomic import fsync_dir
from undo_hpc.storage.opening import open_file
from undo_hpc.system.data_files import expanded


def find_key(file: str, variable: str, *, required: bool) -> str:
    """The key, from its file or else from the environment; never from the configuration itself. Empty where there is none.

    Raises:
        ConfigError: the file cannot be read or is empty, or a key is required and there is none.
    """
    if file:
        try:
            key = expanded(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"engine.openai.api_key_file: {file} cannot be read: {error}",
                hint="name a readable text file",
            ) from error
        if not key:
            raise ConfigError(
                f"engine.openai.api_key_file: {file} is empty", hint="put the key into it, and nothing else"
            )
    else:
        key = os.environ.get(variable, "").strip()
    if required and not key:
        raise ConfigError(
            f"engine.openai.require_key is true, but {variable} is not set and api_key_file is empty",
            hint=f"export {variable}=..., or name a file in engine.openai.api_key_file (only a file reaches the tasks of a SLURM run)",
        )
    if not key.isascii() or not key.isprintable():
        raise ConfigError(
            "the key for the server holds characters that no key has",
            hint="check the variable or the file for stray text",
        )
    return key


def own_key(path: Path) -> str:
    """The key of a run's own servers: read from its file, or made there, for the owner's eyes alone (mode 0600).

    Whoever comes first makes it: servers and clients start at once, on several nodes.

    Raises:
        EngineError: the file is a link, others can read it, or we cannot.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as sink:
            sink.write(secrets.token_urlsafe(32))
            sink.flush()
            os.fsync(sink.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
        temporary.unlink()
        fsync_dir(path.parent)
    try:
        with os.fdopen(
            open_file(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="ascii"
        ) as source:  # a link may lead to another secret
            key, mode = source.read(), os.fstat(source.fileno()).st_mode
        if key and mode & 0o077 == 0:
            return key
        why = "it is empty" if not key else "others can read it"
    except (OSError, ValueError) as error:
        why = str(error)
    raise EngineError(
        f"the key of the run's servers, {path}, cannot be used: {why}",
        hint="where several people share a run: name a key that all of them can read in engine.openai.api_key_file; else remove that file",
    )
