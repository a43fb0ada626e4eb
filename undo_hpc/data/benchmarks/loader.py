"""From a benchmark's name or YAML file to its problems."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from undo_hpc.config.fields import Section, result_field
from undo_hpc.config.load import read_yaml, validate_section
from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.loading import Rejected, load_problems
from undo_hpc.errors import ConfigError
from undo_hpc.records import AnswerKind, Problem
from undo_hpc.system.data_files import expanded
from undo_hpc.system.ownership import require_not_for_everybody, require_not_planted

FOLDER = Path(__file__).resolve().parent
_PLACES = ("path", "hub", "tiny")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class BenchmarkFile(Section):
    """What a benchmark's YAML file says."""

    title: str = result_field("", "name as people write it")
    homepage: str = result_field("", "where it is described")
    citation: str = result_field("", "whom to cite, in one line")
    size: int = result_field(0, "number of problems of the whole benchmark; 0 where it is not fixed", ge=0)
    source: SourceConfig = result_field(
        SourceConfig(), "where the problems come from, with licence, fields and kind of answer"
    )


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's problems. `size` is the number the whole has by its file (0: not fixed)."""

    name: str
    title: str
    licence: str
    problems: list[Problem]
    kind: AnswerKind
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: int = 0
    size: int = 0
    homepage: str = ""
    citation: str = ""
    source: dict[str, Any] = field(default_factory=dict)


def benchmark_names() -> list[str]:
    """Names of the embedded benchmarks."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def describe_benchmark(name_or_file: str, override: SourceConfig | None = None) -> BenchmarkFile:
    """What a benchmark's file says, with the override over its source; no problem is read. Raises as `load_benchmark`."""
    spec = _read(_find(name_or_file))
    return spec.model_copy(update={"source": _merged(spec.source, override)}) if override else spec


def load_benchmark(name_or_file: str, override: SourceConfig | None = None, limit: int = 0) -> Benchmark:
    """Reads a benchmark.

    Args:
        name_or_file: name of an embedded benchmark, a YAML file of the same shape, or a data file or Hub data set whose columns are
            found as those of training data are (its name is then the file's).
        override: another source, e.g. a local file; what it leaves unsaid (fields, kind of answer, split) is as in the
            benchmark's file. A condition of the file's `where` is ignored where a local file lacks the column.
        limit: the first so many problems; 0 for all.

    Raises:
        ConfigError: no such benchmark, or a wrong key in its file (with the nearest valid one).
        DataError: the problems cannot be read.
    """
    path = _find(name_or_file)
    spec = _read(path)
    source = _merged(spec.source, override) if override else spec.source
    own_where = override is not None and "where" in override.model_fields_set
    beside = (
        None if override or path.parent == FOLDER else path.parent
    )  # what a relative path of the benchmark's own file is meant from
    loaded = load_problems(source, base_dir=beside, lenient_where=bool(source.path) and not own_where)
    kind: AnswerKind = (
        "letter" if source.fields.options and source.answer_kind == "auto" else source.answer_kind
    )
    return Benchmark(
        name=path.stem,
        title=spec.title or path.stem,
        licence=source.licence,
        problems=list(loaded.problems[:limit] if limit else loaded.problems),
        kind=kind,
        rejected=loaded.rejected,
        duplicates=loaded.duplicates,
        size=spec.size,
        homepage=spec.homepage,
        citation=spec.citation,
        source=loaded.source,
    )


def _read(path: Path) -> BenchmarkFile:
    """What a benchmark's file says; of a data file, or of a data set on the Hub, its name and place alone."""
    if path.suffix in (".yaml", ".yml"):
        return validate_section(BenchmarkFile, read_yaml(path))
    place = {"path": str(path)} if path.exists() else {"hub": str(path), "split": "test"}
    return BenchmarkFile(title=path.name, source=SourceConfig.model_validate(place))


def _find(name_or_file: str) -> Path:
    """The file of a benchmark; a data file or an id on the Hub as it is."""
    names = benchmark_names()
    if name_or_file in names:
        return FOLDER / f"{name_or_file}.yaml"
    if name_or_file.endswith((".yaml", ".yml")):
        path = expanded(name_or_file)
        if not path.is_file():
            raise ConfigError(
                f"no such benchmark file: {path}", hint=f"embedded benchmarks: {', '.join(names)}"
            )
        require_not_for_everybody(path)
        return path
    path = expanded(name_or_file)
    require_not_planted(Path.cwd(), str(path), "the benchmark")
    if path.is_file() or _HUB_ID.fullmatch(name_or_file):
        return path
    near = difflib.get_close_matches(name_or_file.lower(), names, n=1, cutoff=0.5)
    advice = f"did you mean '{near[0]}'? " if near else ""
    raise ConfigError(
        f"no benchmark named '{name_or_file}'",
        hint=f"{advice}embedded: {', '.join(names)}; or give a YAML file, a data file, or a data set of the Hub (owner/name)",
    )


def _merged(base: SourceConfig, override: SourceConfig) -> SourceConfig:
    """The override over the benchmark's own source: what it says wins, and its place replaces the benchmark's."""
    data = base.model_dump(exclude_unset=True)
    said = override.model_dump(exclude_unset=True)
    if any(said.get(place) for place in _PLACES):
        for place in (*_PLACES, "hub_config", "revision"):
            data.pop(place, None)
        if said.get("hub"):  # another data set has splits of its own, but the benchmark's is the likely one
            data.setdefault("split", base.split)
    fields = data.get("fields", {}) | said.pop("fields", {})
    return SourceConfig.model_validate(data | said | {"fields": fields})
