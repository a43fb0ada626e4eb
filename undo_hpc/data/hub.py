"""A data set of the Hugging Face Hub as a table of rows, with the revision that was read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.rows import BadRow
from undo_hpc.errors import DataError

_PINNED = re.compile(r"^hf://datasets/[^@]+@([0-9a-f]{7,64})/")


@dataclass
class HubTable:
    """Rows of one split; only the rows that are asked for are decoded."""

    name: str
    columns: list[str]
    data: Any

    def __len__(self) -> int:
        return len(self.data)

    def row(self, index: int) -> Mapping[str, Any] | BadRow:
        return dict(self.data[index])

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
        DataError: offline and not in the cache, no such data set, configuration, split or revision.
    """
    import datasets

    split = source.split
    try:
        data = datasets.load_dataset(
            source.hub, name=source.hub_config or None, split=split, revision=source.revision or None
        )
    except (ConnectionError, TimeoutError) as error:
        raise DataError(
            f"the Hub cannot be reached, and {source.hub} is not in the local cache ({_first_line(error)})",
            hint="give a local file as `path`, or fetch it once on a machine with a network "
            "(undo-hpc doctor --config FILE --prefetch) and share its HF_HOME",
        ) from error
    except FileNotFoundError as error:  # datasets.DatasetNotFoundError is one, too
        raise DataError(
            f"no such data set on the Hub: {source.hub} ({_first_line(error)})",
            hint="check `hub`, `hub_config` and `revision`; a gated data set needs a login (HF_TOKEN); or give a local `path`",
        ) from error
    except ValueError as error:  # datasets' word on an unknown configuration or split
        raise DataError(
            f"{source.hub}: {_first_line(error)}",
            hint=f"check `split` ({split}) and `hub_config` ({source.hub_config})",
        ) from error
    found = (_PINNED.match(str(url)) for url in (data.info.download_checksums or {}))
    revision = next((match[1] for match in found if match), source.revision)
    identity = {
        "hub": source.hub,
        "config": source.hub_config,
        "split": split,
        "revision": revision,
        "fingerprint": getattr(data, "_fingerprint", ""),
    }
    return HubTable(source.hub, list(data.column_names), data), identity


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
