"""The cards (README.md) of data on disk, and what they share with those on the Hub. The same run gives the same card: no
times, no host.

A local card has no `configs` in its head: with them, `datasets.load_dataset(folder)` names its cache by the patterns and not by
the files, and every folder of that name gives the rows of the first one that was loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from undo_hpc import __version__
from undo_hpc.config.parts import asks, has_rationales
from undo_hpc.config.schema import RunConfig
from undo_hpc.data.benchmarks import Benchmark
from undo_hpc.method.metrics import sum_generation
from undo_hpc.models.resolve import public_name
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import read_json
from undo_hpc.storage.manifest import Manifest
from undo_hpc.system.templates import render_card

_HERE = Path(__file__).resolve().parent
TAGS = ["distillation", "mathematics", "undo"]
# Licences as the Hub names them.
_LICENCES = (
    "mit apache-2.0 bsd-2-clause bsd-3-clause isc unlicense cc cc0-1.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-3.0 "
    "cc-by-nc-4.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 odc-by odbl pddl gpl gpl-2.0 gpl-3.0 "
    "agpl-3.0 lgpl lgpl-3.0 mpl-2.0 openrail gemma llama2 llama3 llama3.1 llama3.2 llama3.3 unknown"
)

FIELDS = {
    "id": "stable id of the problem, from its text",
    "idx": "row of the problem in its source",
    "problem": "the problem",
    "teacher_solution": "the teacher's rationale",
    "gt": "ground truth",
    "iteration": "iteration that the rationale was written in",
    "attempt": "number of the teacher's attempt",
    "style": "plain (first rationale), refine (written in view of the student's error) or given (it existed before the run)",
    "verdict": "the checker's word on the rationale's answer",
    "completion_tokens": "length of the rationale in the teacher's tokens",
    "source": "where the problem comes from",
}


def source_licence(run: Run) -> str:
    """Licence of the training problems, as the source states it."""
    prepared = read_json(run.layout.prepared) if run.layout.prepared.exists() else {}
    return str(prepared.get("details", {}).get("train_source", {}).get("licence", "")) or "unknown"


def benchmark_details(run: Run) -> dict[str, dict[str, Any]]:
    """Title, licence, sizes and source of each benchmark by name, those included that were added to the run (`evaluate.added`). Where several
    sets are of one benchmark, the title has their names, too."""
    prepared = read_json(run.layout.prepared) if run.layout.prepared.exists() else {}
    found = dict(prepared.get("details", {}).get("benchmarks", {}))
    for name in run.config.evaluate.added:
        if (path := run.layout.added_manifest(name)).exists():
            found[name] = dict(read_json(path).get("details", {}))
    titles = Counter(each.get("title") for each in found.values())
    return {
        name: each | ({"title": f"{each['title']}: {name}"} if titles[each.get("title")] > 1 else {})
        for name, each in found.items()
    }


def licence_tag(name: str) -> str:
    """A licence as the Hub names it; what it does not know is 'other'."""
    tag = "-".join(name.lower().replace("license", " ").replace("licence", " ").split())
    return tag if tag in _LICENCES.split() else "other"


# What the teacher saw from the second iteration on; the other conditions have no second one.
_SEEN = {
    "undo": "From the second iteration on the teacher saw what the student had made of its last rationale.",
    "blind": "From the second iteration on the teacher saw its last rationale and nothing of the student's attempt (a control).",
    "shuffled": "From the second iteration on the teacher saw the student's attempt at another problem (a control).",
}


def provenance(config: RunConfig) -> str:
    """Who wrote the rationales, for whom, and what the teacher saw, in sentences."""
    teacher, student = public_name(config.teacher.model), public_name(config.student.model)
    if config.method.condition == "ground_truth":
        return f"The data's own solutions (a control: no teacher wrote them), for the student `{student}`."
    first = ""
    if has_rationales(config):
        given = config.data.rationales
        where = given.hub or (given.path or given.run).rstrip("/").rpartition("/")[2]
        first = f"The rationales of iteration 0 existed before the run (`{where}`). "
        if not asks(config, "teacher"):
            return first + f"For the student `{student}`."
    return (
        first
        + f"Rationales by `{teacher}` for the student `{student}`. {_SEEN.get(config.method.condition, '')}".strip()
    )


def rationale_licence(config: RunConfig) -> str:
    """Whose licence applies to the rationales, beside that of the problems, in a sentence; empty where it is the same."""
    if not asks(config, "teacher"):
        return ""
    return f"The rationales are the teacher's output: the licence of `{public_name(config.teacher.model)}` applies to them too."


def drops(counts: Mapping[str, Any]) -> str:
    """What a merge left out, by reason, in words."""
    told = (f"{number} {reason.replace('_', ' ')}" for reason, number in counts.get("dropped", {}).items())
    return ", ".join(told) or "none"


def distilled_card(run: Run, iteration: int, shards: Sequence[Manifest], counts: Mapping[str, Any]) -> str:
    """Card of a distilled set: fields, counts, yield, licence, and the command that makes it again.

    Args:
        shards: manifests of the iteration's generation.
        counts: of the merge: `rows`, `carried`, and `dropped` by reason.
    """
    from huggingface_hub import DatasetCardData

    licence = source_licence(run)
    return render_card(
        _HERE / "distilled_card.md.jinja",
        DatasetCardData(license=licence_tag(licence), task_categories=["text-generation"], tags=TAGS),
        config=run.config,
        version=__version__,
        iteration=iteration,
        provenance=provenance(run.config),
        made=sum_generation(m.counts for m in shards),
        counts=counts,
        drops=drops(counts),
        fields=FIELDS,
        licence=licence,
        rationale_licence=rationale_licence(run.config),
    )


def benchmark_card(benchmark: Benchmark) -> str:
    """Card of an exported benchmark."""
    from huggingface_hub import DatasetCardData

    source = benchmark.source
    files = ", ".join(f["file"] for f in source.get("files", []))
    return render_card(
        _HERE / "benchmark_card.md.jinja",
        DatasetCardData(
            license=licence_tag(benchmark.licence),
            task_categories=["text-generation"],
            pretty_name=f"{benchmark.title} (boxed)",
        ),
        benchmark=benchmark,
        n=len(benchmark.problems),
        source=source.get("hub") or files or source.get("kind", ""),
        identity=source.get("revision") or source.get("digest") or source.get("seed", ""),
    )
