"""The key for an OpenAI-compatible server: what clients send, and what the run's own servers ask for."""

from __future__ import annotations

import os
from pathlib import Path

from undo_hpc.errors import ConfigError


def find_key(file: str, variable: str, *, required: bool) -> str:
    """The key, from its file or else from the environment; never from the configuration itself. Empty where there is none.

    Raises:
        ConfigError: the file cannot be read or is empty, or a key is required and there is none.
    """
    if file:
        try:
            key = Path(file).expanduser().read_text(encoding="utf-8").strip()
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
