"""What users bring of their own: an object by its dotted path or its entry point. Nothing of the package has to be edited for it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from undo_hpc.errors import ConfigError
from undo_hpc.system.ownership import require_trusted_code


class NotInstalled(ConfigError):
    """A module that this Python does not find; another Python, such as a container's, may."""


_searched: dict[str, None] = {}


def search_folders(folders: Iterable[str]) -> None:
    """Lets Python find modules in these folders, behind all that is installed. Raises ConfigError where others decide what lies there."""
    for folder in folders:
        require_trusted_code(Path(folder))
        _searched[folder] = None
        if folder not in sys.path:
            sys.path.append(folder)


def place_in_plugins(error: BaseException) -> str:
    """The last line of a user's module on the way to an error, in words; empty where none had a part in it."""
    ours = (f"{Path(__file__).parents[1]}{os.sep}", f"{sys.prefix}{os.sep}")
    theirs = tuple(f"{folder.rstrip(os.sep)}{os.sep}" for folder in _searched)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(theirs) and not frame.filename.startswith(ours):
            return f"in {frame.filename}, line {frame.lineno}, which `plugins` names"
    return ""


def load_object(text: str, *, group: str, key: str, attribute: str = "") -> Any:
    """The object that a configuration names.

    Args:
        text: 'package.module:name'; or the name of an entry point of `group`; or, with `attribute`, the module that has it.
        key: the configuration's key, for messages.

    Raises:
        NotInstalled: there is no such module.
        ConfigError: it cannot be imported, or has no such name.
    """
    module, _, name = text.partition(":")
    found = () if name or "." in text else tuple(entry_points(group=group, name=text))
    try:
        if found:
            return found[0].load()
        name = name or attribute
        if not name:
            raise ConfigError(
                f"{key}: '{text}' is neither 'package.module:name' nor an entry point of {group}",
                hint=f"for example {key}: my_package.module:MyClass",
            )
        loaded: Any = importlib.import_module(module)
        for part in name.split("."):
            loaded = getattr(loaded, part)
        return loaded
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"{key}: cannot load '{text}' ({error})",
            hint="install its package with this Python, or name the folder that holds it under `plugins` (PYTHONPATH does not reach jobs)",
        ) from error
    except (Exception, SystemExit) as error:  # whatever a user's module does when it is imported
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"{key}: cannot load '{text}' ({type(error).__name__}: {error}; {where.filename}, line {where.lineno})",
            hint="fix that module",
        ) from error


def require_call(found: Any, *arguments: str, key: str, what: str) -> Callable[..., Any]:
    """Refuses what cannot be called with so many arguments.

    Raises:
        ConfigError: it is not callable, or takes others.
    """
    wanted = f"{what}({', '.join(arguments)})"
    if not callable(found):
        raise ConfigError(f"{key}: {found!r} cannot be called", hint=f"it is called as {wanted}")
    try:
        inspect.signature(found).bind(*arguments)
    except TypeError as error:
        raise ConfigError(
            f"{key}: {what} cannot be called as {wanted}: {error}", hint="see docs: recipes"
        ) from error
    except ValueError:  # no signature is known, as of some built-in classes
        pass
    return found


def require_methods(found: Any, *names: str, key: str) -> None:
    """Refuses an object or class that lacks a method. Raises ConfigError."""
    lacking = [name for name in names if not callable(getattr(found, name, None))]
    if lacking:
        raise ConfigError(
            f"{key}: {getattr(found, '__name__', found)!r} has no method {', '.join(lacking)}",
            hint=f"it needs {', '.join(names)}",
        )
