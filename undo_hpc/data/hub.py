"""A data set of the Hugging Face Hub as a table of rows, with the revision that was read."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.archives import plain_archives
from undo_hpc.data.tables import BadRow, decoded, require_different, short_decimals
from undo_hpc.errors import DataError, UndoError
from undo_hpc.models.hub import unreachable
from undo_hpc.system.credentials import hub_token, redacted
from undo_hpc.system.lent import folders_below, require_not_lent, stray_link, undisturbed

log = logging.getLogger(__name__)

_LOOK = "ask who made it; or download it, look at these settings, and give its files as a local `path`"
_CONVERTED = "set `revision: refs/convert/parquet`, where the Hub keeps its own conversion of most data sets"
# The commit that was read, as it stands in the addresses of its files and in the name of its folder in the cache of `datasets`.
_COMMIT = re.compile(r"[@/]([0-9a-f]{40})/")


@dataclass
class HubTable:
    """Rows of one split; only the rows that are asked for are decoded."""

    name: str
    columns: list[str]
    data: Any

    def __post_init__(self) -> None:
        self._decimals = short_decimals(self.data.features.arrow_schema)

    def __len__(self) -> int:
        return len(self.data)

    def row(self, index: int) -> Mapping[str, Any] | BadRow:
        return decoded(lambda: dict(self.data[index]), self._decimals)

    def where(self, index: int) -> str:
        return f"{self.name} row {index}"

    def narrow(self, columns: list[str]) -> None:
        self.columns = [name for name in self.columns if name in columns]
        self.data = self.data.select_columns(self.columns)


def read_hub(source: SourceConfig) -> tuple[HubTable, dict[str, Any]]:
    """Reads `source.hub` through `datasets` (from its cache, where it lies there).

    Returns:
        The rows, and what identifies them: id, configuration, split, the revision that was read, fingerprint.

    Raises:
        DataError: offline and not in the cache, no such data set, configuration, split or revision, a data set with a loading
            script, files that are broken or do not fit together.
    """
    import datasets

    if Path(source.hub).exists() and not Path(source.hub).is_absolute():
        raise DataError(  # of anybody's, where the working folder is one for everybody
            f"{source.hub} is meant from the Hub, and `datasets` would take the folder {Path(source.hub).absolute()} for it",
            hint="start from another folder; or name that one in `path` in place of `hub`",
        )
    split = source.split
    try:
        with _own_files_only(source.hub):
            data = datasets.load_dataset(
                source.hub, name=source.hub_config or None, split=split, revision=source.revision or None
            )
    except UndoError:
        raise
    except Exception as error:  # whatever `datasets` meets in the files of others, the user learns the cause
        raise _explained(error, source) from error
    for file in data.cache_files:  # in a cache that others share one may be a link of theirs by now
        require_not_lent(Path(file["filename"]))
    data.info.features = _as_stored(data.features)
    require_different(data.column_names, source.hub)
    places = [*(data.info.download_checksums or {}), *(file["filename"] for file in data.cache_files)]
    found = (match for place in places for match in [_COMMIT.search(str(place))] if match)
    revision = next((match[1] for match in found), source.revision)
    identity = {
        "hub": source.hub,
        "config": source.hub_config,
        "split": split,
        "revision": revision,
        "fingerprint": getattr(data, "_fingerprint", ""),
    }
    return HubTable(source.hub, list(data.column_names), data), identity


def _as_stored(features: Any) -> Any:
    """Columns of pictures, sound and films as what the file holds of them. None is text, and to decode one is to open the file or the address
    that a row names: any of ours, or a server that is asked again for minutes, row by row."""
    from datasets.features.features import _visit

    return _visit(
        features, lambda kind: replace(kind, decode=False) if getattr(kind, "decode", None) else kind
    )


@contextlib.contextmanager
def _own_files_only(hub: str) -> Iterator[None]:
    """Within it `datasets` looks for data files of this data set alone. The head of a README (`data_files`, `data_dir`) may name any file
    here, such as one with a token, another repository of ours, and addresses of all kinds that fsspec opens: its lines would be rows.
    `datasets` has no setting against that; all patterns go through one function."""
    from datasets import builder, data_files

    find, place = data_files.resolve_pattern, builder.DatasetBuilder._build_cache_dir

    def of_its_own(pattern: str, base_path: str, *others: Any, **named: Any) -> list[str]:
        here = str(Path(hub).resolve()) if Path(hub).is_absolute() else f"hf://datasets/{hub}@"
        below = base_path.removeprefix(here)
        named_here = base_path.startswith(here) and not pattern.startswith("/")
        for part in (below, pattern):
            if not named_here or ":" in part or ".." in Path(part).parts:
                raise DataError(
                    f"{hub}: the settings in its README name data files outside of it, {pattern} in {base_path}",
                    hint=_LOOK,
                )
        return list(find(pattern, base_path, *others, **named))

    def in_the_cache(self: Any) -> str:
        found = str(place(self))  # its version, which may stand in the README, too, is a part of this path
        if ".." in Path(found).parts or not Path(found).is_relative_to(self._cache_dir_root):
            raise DataError(
                f"{hub}: the settings in its README name a place outside of the cache, {found}", hint=_LOOK
            )
        return found

    data_files.resolve_pattern, builder.DatasetBuilder._build_cache_dir = of_its_own, in_the_cache
    try:
        folders = folders_below(Path(hub)) if Path(hub).is_absolute() else []
        files = [file for at in folders for file in at.iterdir()]
        with undisturbed([*folders, *files]), plain_archives(again=Path(hub).is_absolute()):
            for file in files:  # not only what patterns find: some kinds of data have files beside these
                _look_at(file, Path(hub).resolve())
            yield
    finally:
        data_files.resolve_pattern, builder.DatasetBuilder._build_cache_dir = find, place


def _look_at(file: Path, folder: Path) -> None:
    if file.is_file():
        require_not_lent(file)
        if file.is_relative_to(folder) and (led := stray_link(file, folder)):
            log.warning("%s is a link to a file outside of the data, %s: its rows are read", *led)


def _explained(error: Exception, source: SourceConfig) -> DataError:
    """What `datasets` could not do, with its cause and the remedy."""
    from datasets.exceptions import DataFilesNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub, cause = source.hub, root_cause(error)
    words = _words(cause)
    refused = next(
        (
            e
            for e in _chain(error)
            if isinstance(e, HfHubHTTPError) and getattr(e, "response", None) is not None
        ),
        None,
    )
    if refused is not None and refused.response.status_code != 404:
        return DataError(
            f"the Hub does not give {hub}: {_words(refused)}",
            hint="a gated or private data set needs a login (`hf auth login`, HF_TOKEN) and its owner's consent; else try again later",
        )
    if isinstance(error, ConnectionError | TimeoutError) or unreachable(error):
        return DataError(
            f"the Hub cannot be reached, and {hub} is not in the local cache ({words})",
            hint="give a local file as `path`, or fetch it once on a machine with a network "
            "(undo-hpc doctor --config FILE --prefetch) and share its HF_HOME",
        )
    if isinstance(error, RuntimeError) and "script" in words.lower():
        return DataError(
            f"{hub} is read by a loading script of its own, which `datasets` no longer runs ({words})",
            hint=f"{_CONVERTED}; or give its files as a local `path`",
        )
    if isinstance(error, DataFilesNotFoundError):
        return DataError(
            f"{hub} has no data files of a kind that `datasets` reads ({words})",
            hint=f"check `hub_config`, `split` and `revision`. {_CONVERTED}; or give a local `path`",
        )
    if isinstance(error, FileNotFoundError):  # DatasetNotFoundError is one, too
        return DataError(
            f"no such data set on the Hub: {hub} ({words})",
            hint="check `hub`, `hub_config` and `revision`; a gated data set needs a login (HF_TOKEN); or give a local `path`",
        )
    if isinstance(error, HFValidationError):
        return DataError(
            f"{hub!r} is no name of a data set on the Hub: {words}", hint="check `hub`: account/name"
        )
    if type(error) is ValueError:  # an unknown configuration or split
        return DataError(
            f"{hub}: {words}",
            hint=f"check `split` ({source.split}) and `hub_config` ({source.hub_config or 'not set'})",
        )
    return DataError(
        f"{hub} cannot be read: {words}",
        hint=f"its files are broken or do not fit together. {_CONVERTED}; or download it, fix the file, and give it as a local `path`",
    )


def root_cause(error: BaseException) -> BaseException:
    """The error behind `datasets`' general ones (\"An error occurred while generating the dataset\")."""
    from datasets.exceptions import DatasetGenerationCastError, DatasetGenerationError

    while isinstance(error, DatasetGenerationError) and not isinstance(error, DatasetGenerationCastError):
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    """The words of an error in one line, without those that say nothing."""
    lines = [line.strip() for line in redacted(str(error), hub_token()).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("An error occurred while generating")]
    return " ".join(told)[:500] or type(error).__name__
