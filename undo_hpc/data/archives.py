"""Archives among a data set's files, which `datasets` unpacks: files and folders in them, and nothing else.

Its own look at names and links takes them as text, and the system as what lies there by then: through a link in an archive another member of
it was written anywhere, over a file of ours too, and a file of ours was read as rows (datasets 5.2, utils/extract.py).
"""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from undo_hpc.errors import DataError

_HINT = "unpack it yourself, look at what is in it, and give its files as a local `path`"


@contextlib.contextmanager
def plain_archives(*, again: bool) -> Iterator[None]:
    """While a data set is read: of a tar only plain members are unpacked, and one with others is refused; 7z and rar are refused.

    Args:
        again: unpack what was unpacked before, too. `datasets` knows it by the archive's path alone, and a file of ours may have been replaced.
    """
    from datasets.utils import extract

    ours = {
        (extract.TarExtractor, "extract"): staticmethod(_unpack),
        (extract.SevenZipExtractor, "extract"): staticmethod(_refuse),
        (extract.RarExtractor, "extract"): staticmethod(_refuse),
    } | ({(extract.ExtractManager, "_do_extract"): lambda *_: True} if again else {})
    before = {(kind, name): kind.__dict__[name] for kind, name in ours}
    try:
        for (kind, name), value in ours.items():
            setattr(kind, name, value)
        yield
    finally:
        for (kind, name), value in before.items():
            setattr(kind, name, value)


def _unpack(input_path: Any, output_path: Any) -> None:
    """Raises DataError for a link, a device, or a name that leads out: none of them has to do with data."""
    with tarfile.open(input_path) as archive:
        members = archive.getmembers()
        for member in members:
            parts = Path(member.name).parts
            if not (member.isreg() or member.isdir()) or ".." in parts or parts[:1] == ("/",):
                raise DataError(
                    f"{input_path} is an archive that holds more than files: {member.name[:100]!r} is a link, a device, or a path out of it",
                    hint=_HINT,
                )
        Path(output_path).mkdir(parents=True, exist_ok=True)
        safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(output_path, members=members, **safe)  # noqa: S202 -- looked at above


def _refuse(input_path: Any, output_path: Any) -> None:
    raise DataError(f"{input_path} is an archive of a kind that is not unpacked here", hint=_HINT)
