"""The cards of data on disk: what `datasets` makes of a folder with one, and what their heads say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from tests.observe.synthetic import RunBuilder
from undo_hpc.config.load import override
from undo_hpc.config.schema import SourceConfig
from undo_hpc.data.cards import benchmark_details, distilled_card, licence_tag
from undo_hpc.data.distilled import DistilledFile, DistilledFolder
from undo_hpc.data.export import export_benchmark
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.atomic import read_json, write_json

COUNTS = {"rows": 1, "carried": 0, "dropped": {"too_long": 2}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return RunBuilder(tmp_path_factory.mktemp("cards") / "run", problems=20).run


def write_set(folder: Path, rows: int, card: str) -> None:
    """A distilled set of so many rows."""
    with (
        DistilledFolder(folder, card) as made,
        DistilledFile(made.temporary / "distilled-00000.parquet") as file,
    ):
        file.extend(
            [
                (f"p{k}", k, "problem", f"{folder} {rows}", "1", 0, 0, "plain", "correct", 5, "source")
                for k in range(rows)
            ]
        )


def test_every_distilled_set_loads_its_own_rows_from_a_shared_cache(run: Run, tmp_path: Path) -> None:
    from datasets import load_dataset

    sizes = {"a/iter_000": 828, "a/iter_001": 837, "b/iter_000": 23, "b/iter_001": 828}
    folders = {tmp_path / name / "distilled": size for name, size in sizes.items()}
    for folder, size in folders.items():
        write_set(folder, size, distilled_card(run, 0, [], COUNTS))
    for _ in range(2):  # the second time from the cache
        for folder, size in folders.items():
            data = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
            assert list(data) == ["train"] and len(data["train"]) == size
            assert data["train"][0]["teacher_solution"] == f"{folder} {size}"
    write_set(folder, 12, distilled_card(run, 0, [], COUNTS))  # made again in the same place
    assert len(load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]) == 12


def test_every_exported_benchmark_loads_its_own_rows_from_a_shared_cache(tmp_path: Path) -> None:
    from datasets import load_dataset

    for size in (3, 7, 2):
        rows = tmp_path / f"{size}.jsonl"
        rows.write_text(
            "".join(
                json.dumps({"question": f"{k} of {size}?", "answer": f"#### {k}"}) + "\n" for k in range(size)
            )
        )
        out, _ = export_benchmark("gsm8k", tmp_path / str(size) / "boxed", SourceConfig(path=str(rows)))
        data = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
        assert (
            list(data) == ["test"]
            and data["test"]["problem"][0] == f"0 of {size}?"
            and len(data["test"]) == size
        )


def test_the_head_has_the_licence_as_the_hub_names_it_and_the_text_as_it_was_stated(run: Run) -> None:
    prepared = read_json(run.layout.prepared)
    prepared["details"]["train_source"]["licence"] = "Apache License 2.0"
    write_json(run.layout.prepared, prepared)
    local = Run(
        run.layout, override(run.config, ["teacher.model=/models/big", "student.model=/models/small"])
    )
    card = DatasetCard(distilled_card(local, 0, [], COUNTS))
    assert card.data.license == "apache-2.0" and "Apache License 2.0" in card.text
    assert "2 too long" in card.text and "`big`" in card.text and "/models" not in card.content


def test_two_sets_of_one_benchmark_have_titles_that_differ(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", problems=20, benchmarks={"gsm": 3, "hard": 3}).run
    added = json.dumps({"more": {"benchmark": "gsm"}})
    run = Run(run.layout, override(run.config, [f"evaluate.added={added}"]))
    write_json(run.layout.added_manifest("more"), {"details": {"title": "GSM"}})
    titles = {name: each["title"] for name, each in benchmark_details(run).items()}
    assert titles == {"gsm": "GSM: gsm", "hard": "HARD", "more": "GSM: more"}


@pytest.mark.parametrize(
    ("stated", "tag"),
    [("MIT", "mit"), ("Apache-2.0", "apache-2.0"), ("CC BY-SA 4.0", "cc-by-sa-4.0"), ("MIT License", "mit"), ("llama3.1", "llama3.1"),
     ("ask the authors", "other"), ("", "other"), ("unknown", "unknown")],
)  # fmt: skip
def test_licence_tags(stated: str, tag: str) -> None:
    assert licence_tag(stated) == tag
