"""prepare: problems and benchmarks are read once, split, compared, and frozen in the run directory.

The launcher does this before it submits anything, so compute nodes need neither the Hub nor the source files.
"""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from undo_hpc.chat.plain_text import control_tokens
from undo_hpc.config.parts import has_rationales, only_evaluates
from undo_hpc.config.schema import AddedEvaluation, ModelConfig, RunConfig
from undo_hpc.data import (
    LoadedProblems,
    Rejected,
    Splits,
    contamination,
    kind_of,
    load_problems,
    split_problems,
)
from undo_hpc.data.benchmarks import Benchmark, load_benchmark
from undo_hpc.data.many_ids import SortedDigests
from undo_hpc.data.problem_file import select
from undo_hpc.data.rationales import Rationales, load_rationales
from undo_hpc.errors import DataError, EvidenceError
from undo_hpc.models.files import changed_files, damaged_files, fingerprint
from undo_hpc.models.hub import check_hub_model
from undo_hpc.models.own_files import require_own_files
from undo_hpc.models.resolve import loaded_models, resolve_model
from undo_hpc.pipeline.run import Run
from undo_hpc.records import SPLITS, Problem, normalise_text
from undo_hpc.storage.atomic import write_bytes
from undo_hpc.storage.chunks import Chunks, write_chunked
from undo_hpc.storage.manifest import (
    DamagedManifest,
    Manifest,
    Output,
    describe_output,
    read_manifest,
    verify_outputs,
    write_manifest,
)
from undo_hpc.storage.shards import dump_rows, encode_row
from undo_hpc.system.invocation import resume_hint
from undo_hpc.system.wording import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """All that a run is made from: models by role, problems and benchmarks."""

    models: dict[str, dict[str, Any]]
    sources: Sources


def read_inputs(config: RunConfig) -> Inputs:
    """Looks at the models and reads the data of a run; writes nothing. Raises ConfigError or DataError."""
    models = {role: describe_model(model) for role, model in loaded_models(config).items()}
    return Inputs(models, read_sources(config))


def prepare(run: Run, inputs: Inputs | None = None) -> Manifest:
    """Freezes splits and benchmarks, or finds them frozen.

    Args:
        inputs: what `read_inputs` gave for this configuration; read here where it is None.

    Raises:
        ConfigError, DataError: the data or a model directory cannot be used, or a model is not the one that the run began with;
            the message says what, where, and what to do.
    """
    try:
        done = read_manifest(run.layout.prepared)
    except DamagedManifest as error:
        log.warning("%s; the problems are read and frozen again", error.message)
        done = None
    if done is not None and not verify_outputs(run.layout.root, done, deep=False):
        check_models(run, done)
        return done
    config = run.config
    inputs = inputs or read_inputs(config)
    models, sources = inputs.models, inputs.sources
    loaded, benchmarks, splits = sources.loaded, sources.benchmarks, sources.splits
    rejected, contaminated = sources.rejected, sources.contaminated
    sets: dict[str, Sequence[Problem]] = {name: getattr(splits, name) for name in SPLITS}
    paths: dict[Path, Sequence[Problem]] = {run.layout.split(n): ps for n, ps in sets.items()}
    paths |= {run.layout.benchmark(b.name): b.problems for b in benchmarks}
    outputs: dict[str, Output] = {}
    chunks: dict[str, Chunks] = {}
    texts = {path: _Texts() for path in paths}
    for path, rows in paths.items():
        name = run.layout.relative(path)
        outputs[name], cut = write_chunked(path, map(encode_row, texts[path].read(rows)))
        chunks |= {name: cut} if cut else {}
    write_bytes(run.layout.rejected, map(encode_row, rejected))
    lengths = {run.layout.rejected: len(rejected)}
    given = sources.rationales
    if given is not None:
        found = [
            {"problem_id": p.problem_id, "idx": p.idx, "texts": given.texts[p.problem_id]}
            for p in splits.train
            if p.problem_id in given.texts
        ]
        write_bytes(run.layout.rationales, dump_rows(found))
        lengths[run.layout.rationales] = len(found)
    manifest = Manifest(
        stage="prepare",
        iteration=0,
        index=0,
        inputs={"config": run.config_digest},
        outputs=outputs
        | {run.layout.relative(path): describe_output(path, length) for path, length in lengths.items()},
        counts={name: len(ps) for name, ps in sets.items()}
        | {
            "rejected": len(rejected) - (contaminated if config.data.contamination == "report" else 0),
            "duplicates": loaded.duplicates,
            "contaminated": contaminated,
            "control_tokens": sum(found.with_control_tokens for found in texts.values()),
        },
        details={
            "train_source": loaded.source,
            "benchmarks": {
                b.name: {
                    "title": b.title,
                    "licence": b.licence,
                    "n": len(b.problems),
                    "of": b.size,
                    "source": b.source,
                }
                for b in benchmarks
            },
            "rejected_reasons": dict(Counter(f"{r['set']}: {kind_of(str(r['reason']))}" for r in rejected)),
            "text_digests": {n: texts[run.layout.split(n)].digest() for n in sets},
            "models": models,
        }
        | ({"chunks": chunks} if chunks else {})
        | (
            {"rationales": given.counts() | {"source": given.source, "examples": given.examples}}
            if given
            else {}
        ),
    )
    write_manifest(run.layout.prepared, manifest)
    if found := manifest.counts["control_tokens"]:
        log.warning(
            "%d problems hold what looks like a model's control token, such as <|im_end|>; it is read as text",
            found,
        )
    return manifest


def freeze_added(run: Run) -> list[str]:
    """Freezes the sets that were added to a run (`evaluate.added`), or finds them frozen; returns a sentence for each of which rows were
    not used, and for each that overlaps with what the run learned from (nothing is dropped now: the run has begun).

    Raises:
        ConfigError, DataError: a benchmark cannot be read.
    """
    notes = []
    for name, added in run.config.evaluate.added.items():
        path = run.layout.added_manifest(name)
        done = read_manifest(path)
        if done is not None and not verify_outputs(run.layout.root, done, deep=False):
            continue
        read = read_added(added, run.config)
        overlaps = {o.problem_id for o in contamination(run.problems("train"), [read], run.config.data.ngram)}
        if overlaps:
            notes.append(
                f"{name}: {counted(len(overlaps), 'training problem')} of this run stand in it; they were learned from, and inflate its accuracy"
            )
        files = {run.layout.benchmark(name): [problem.to_dict() for problem in read.problems]}
        if read.rejected:
            listed = run.layout.rejected_of(name)
            files[listed] = [{"set": name, **asdict(row)} for row in read.rejected]
            notes.append(f"{name}: {counted(len(read.rejected), 'row')} not used, see {listed}")
        for file, rows in files.items():
            write_bytes(file, map(encode_row, rows))
        details = {
            "title": read.title,
            "licence": read.licence,
            "n": len(read.problems),
            "of": read.size,
            "source": read.source,
            "asked": added.settings,
        }
        counts = {"contaminated": len(overlaps)}
        outputs = {run.layout.relative(f): describe_output(f, len(rows)) for f, rows in files.items()}
        write_manifest(path, Manifest("prepare", 0, 0, {}, outputs, counts=counts, details=details))
    return notes


def read_added(added: AddedEvaluation, config: RunConfig) -> Benchmark:
    """The problems of an added set. Raises ConfigError or DataError where they cannot be read."""
    override = added.source or config.evaluate.overrides.get(Path(added.benchmark).stem)
    return load_benchmark(added.benchmark, override, added.limit)


def require_added(run: Run, name: str) -> None:
    """Raises EvidenceError where the frozen problems of an added set are missing or changed."""
    manifest = read_manifest(run.layout.added_manifest(name))
    if problem := verify_outputs(run.layout.root, manifest, deep=True) if manifest else "no manifest":
        raise EvidenceError(
            f"the added set {name} is damaged: {problem}",
            hint=f"delete {run.layout.added_manifest(name)} and run the launcher again: it reads the benchmark again",
            blocked=True,
        )


@dataclass(frozen=True)
class Sources:
    """Training problems and benchmarks as they were read, and what was made of them."""

    loaded: LoadedProblems
    benchmarks: list[Benchmark]
    rejected: list[dict[str, Any]]
    contaminated: int
    splits: Splits
    rationales: Rationales | None = None


def read_sources(config: RunConfig, names: Sequence[str] | None = None) -> Sources:
    """Reads, compares and splits the data of a run; writes nothing.

    Args:
        names: the benchmarks to read; None reads those of the configuration.

    Raises:
        ConfigError, DataError: the data cannot be used; the message says what, where, and what to do.
    """
    train = config.data.train
    taught = not only_evaluates(config) or train.path or train.hub or train.tiny
    loaded = load_problems(train) if taught else LoadedProblems([])
    if config.method.condition == "ground_truth" and not any(p.solution for p in loaded.problems):
        raise DataError(
            "method.condition is ground_truth, and not one training problem has a worked solution",
            hint="name its column in data.train.fields.solution",
        )
    benchmarks = [
        load_benchmark(name, config.evaluate.overrides.get(Path(name).stem), config.evaluate.limit)
        for name in (config.evaluate.benchmarks if names is None else names)
    ]
    _require_unique([b.name for b in benchmarks])
    rejected = [{"set": name, **asdict(row)} for name, rows in _rejected(loaded, benchmarks) for row in rows]
    problems, contaminated = _without_overlaps(config, loaded.problems, benchmarks, rejected)
    splits = split_problems(problems, config.data, config.seed) if problems else Splits([], [], [])
    rationales = None
    if has_rationales(config) and config.method.condition != "ground_truth":
        rationales = load_rationales(
            config.data.rationales, splits.train, [*splits.diagnosis, *splits.validation]
        )
    return Sources(loaded, benchmarks, rejected, contaminated, splits, rationales)


def describe_model(model: ModelConfig) -> dict[str, Any]:
    """A model for the record: where it lies and what is in its files; of an id on the Hub just that.

    Raises:
        DataError: it is broken, or the Hub does not have it.
    """
    place = resolve_model(model.model)
    if Path(place).is_dir():
        if damaged := damaged_files(Path(place)):
            raise DataError(
                f"{place}: its files are damaged: {'; '.join(damaged)}",
                hint="copy or download these files again",
            )
        return {"model": place, "files": fingerprint(Path(place))}
    check_hub_model(place, model.revision)
    require_own_files(place, model.revision)  # of the cache: a task would refuse it hours later
    return {"model": place, "files": {}}


def check_models(run: Run, prepared: Manifest, roles: Sequence[str] = ("teacher", "student")) -> None:
    """Whether local models still are those that the run began with. Raises DataError that names the file.

    A folder that is not there at all is left to the stage that needs it: it may be needed no more. One that is there for an id on the Hub is another.
    """
    for role in roles:
        recorded = prepared.details.get("models", {}).get(role, {})
        folder = Path(str(recorded.get("model", "")))
        if recorded.get("files") is None or not folder.is_dir():
            continue
        if changed := changed_files(recorded["files"], fingerprint(folder)):
            raise DataError(
                f"{role}.model: {folder.absolute()} is not the model that this run began with: "
                f"{', '.join(changed[:3])}{' and others' if len(changed) > 3 else ''} changed",
                hint="put the model back as it was, or start a new run (another --run-dir) with the new one",
            )


def prepared_digest(run: Run, files: Iterable[Path] | None = None) -> str:
    """Digest of the frozen problems, for the `inputs` of manifests. Raises EvidenceError where they are missing or changed.

    Args:
        files: the only ones that are read here, so that only they need to be checked; all by default.
    """
    try:
        manifest = read_manifest(run.layout.prepared)
    except DamagedManifest:
        manifest = None
    if manifest is None:
        hint = f"run {resume_hint(run.layout.root)}, which freezes the problems again"
        raise EvidenceError(f"{run.layout.prepared} is missing or damaged", hint=hint, blocked=True)
    names = manifest.outputs.keys() if files is None else set(map(run.layout.relative, files))
    outputs = {name: output for name, output in manifest.outputs.items() if name in names}
    if problem := verify_outputs(run.layout.root, replace(manifest, outputs=outputs), deep=True):
        raise EvidenceError(
            f"the frozen problems are damaged: {problem}",
            hint=f"put the file back, or delete {run.layout.prepared} and run the launcher again: it prepares the data again",
            blocked=True,
        )
    return manifest.digest


def slices_digest(run: Run, names: Iterable[str]) -> str:
    """`prepared_digest` for tasks that read slices of these splits or benchmarks: the chunks of large files are compared where they are
    read (`Run.problems`), whole files here."""
    files = dict.fromkeys(run.problems_file(name) for name in names)
    return prepared_digest(run, [path for path in files if run.layout.relative(path) not in run.chunks])


def _without_overlaps(
    config: RunConfig,
    problems: Sequence[Problem],
    benchmarks: list[Benchmark],
    rejected: list[dict[str, Any]],
) -> tuple[Sequence[Problem], int]:
    """The training problems without those that stand in a benchmark, which are listed among the rejected."""
    how = config.data.contamination
    if how == "off":
        return problems, 0
    overlaps = {o.problem_id: o for o in contamination(problems, benchmarks, config.data.ngram)}
    left = array("q")
    for number, problem in enumerate(problems if overlaps else ()):
        if problem.problem_id not in overlaps:
            left.append(number)
        else:
            found = overlaps[problem.problem_id]
            what = "the same text" if found.kind == "exact" else f"{config.data.ngram} words in a row"
            word = "dropped" if how == "drop" else "kept"
            reason = (
                f"contamination: {what} as problem {found.benchmark_problem_id} of {found.benchmark} ({word})"
            )
            rejected.append(
                {"set": "train", "row": problem.idx, "where": f"row {problem.idx}", "reason": reason}
            )
    if how == "report" or not overlaps:
        return problems, len(overlaps)
    if not left:
        raise DataError(
            "every training problem stands in a benchmark",
            hint="train on other data, or set data.contamination: report",
        )
    return select(problems, left), len(overlaps)


def _rejected(
    loaded: LoadedProblems, benchmarks: Sequence[Benchmark]
) -> Iterator[tuple[str, list[Rejected]]]:
    """The rows that could not be used, set by set."""
    yield "train", loaded.rejected
    for benchmark in benchmarks:
        yield benchmark.name, benchmark.rejected


def _require_unique(names: list[str]) -> None:
    double = sorted({name for name in names if names.count(name) > 1} | (set(names) & set(SPLITS)))
    if double:
        raise DataError(f"two sets are named {double[0]!r}", hint="rename the benchmark's YAML file")


class _Texts:
    """What is to be known of the texts of a set, told while it is written."""

    def __init__(self) -> None:
        self.with_control_tokens = 0
        self._digests = SortedDigests()

    def read(self, problems: Iterable[Problem]) -> Iterator[dict[str, Any]]:
        """The problems as they stand on disk."""
        for problem in problems:
            self.with_control_tokens += bool(control_tokens(problem.problem))
            self._digests.add(
                hashlib.sha256(normalise_text(problem.problem).encode("utf-8", "replace")).digest()
            )
            yield problem.to_dict()

    def digest(self) -> str:
        """Digest of the digests of the normalised texts, sorted, to show that splits are disjoint and the same as another run's."""
        return self._digests.hexdigest()
