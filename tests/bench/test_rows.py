"""A rival that is missing or broken is a row that says so, and never a goal that holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.bench import __main__ as command
from tests.bench import (
    bench_gpu_training,
    bench_targets,
    bench_training,
    bench_training_real,
    gpu_wheels,
    training_race,
)
from tests.bench.frame import Measure, Skipped
from tests.bench.rationale_lengths import PAIRS

OURS = {"tokens": 100.0, "cpu_s": 1.0, "grown": 2**30, "peak": 2**30, "loss": 1.0, "steps": 2}


def told(broken: dict[str, dict[str, Any]]) -> Any:
    return lambda name, place, *_: broken.get(name, OURS)


def test_a_rival_that_breaks_takes_its_own_rows_with_it_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"trl_packed": {"failed": "trl is not installed", "missing": True}}
    broken["trainer_rows"] = {"failed": "ValueError: no"}
    monkeypatch.setattr(bench_training, "run_contestant", told(broken))
    monkeypatch.setattr(bench_training_real, "prepare", lambda *_: None)
    rows = {row.id: row.to_dict() for row in bench_training_real.run(bench_training_real.RACES["135M"])}
    missing, broke = rows["P2r-135M-trl_packed"], rows["P2r-135M-trainer_rows"]
    assert missing["skipped"].endswith("trl is not installed") and "broke" not in missing
    assert broke["skipped"].endswith("ValueError: no") and broke["broke"] is True
    assert rows["P2r-135M-trainer_grouped"]["holds"] is True
    assert "holds" not in missing and "holds" not in broke


def test_without_ours_nothing_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_training, "run_contestant", told({"ours": {"failed": "MemoryError"}}))
    monkeypatch.setattr(bench_training_real, "prepare", lambda *_: None)
    rows = [
        row.to_dict() for one in bench_training_real.RACES.values() for row in bench_training_real.run(one)
    ]
    assert rows and not any("holds" in row for row in rows) and all(row["broke"] for row in rows)


def test_a_contestant_that_cannot_start_is_told(tmp_path: Path) -> None:
    failed = training_race.run_contestant("no_such_contestant", tmp_path, 60.0)
    assert "no_such_contestant" in failed["failed"]


def test_the_command_fails_where_a_row_broke_and_not_where_one_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[Measure | Skipped] = [Skipped("A", "it is not installed"), Measure("B", "b", 2.0, 1.0, ">=1")]

    def measures() -> Iterator[Measure | Skipped]:
        yield from found

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["bench", "merge"])
    plain = command.importlib.import_module
    monkeypatch.setattr(
        command.importlib,
        "import_module",
        lambda name: SimpleNamespace(measures=measures) if name.endswith("bench_merge") else plain(name),
    )
    assert command.main() == 0
    found.append(Skipped("C", "it broke", broke=True))
    assert command.main() == 1
    found[-1] = Measure("C", "c", 1.0, 2.0, ">=1")
    assert command.main() == 1
    written = json.loads((tmp_path / "build" / "bench.json").read_text())["measures"]
    assert [row["id"] for row in written] == ["A", "B", "C"]
    assert "A" in capsys.readouterr().out


def test_what_a_benchmark_leaves_behind_is_not_the_next_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leaves() -> Iterator[Measure]:
        os.environ["LOCAL_RANK"] = "0"
        yield Measure("A", "a", 1.0, None, "<=1")

    def ends() -> Iterator[Measure]:
        yield Measure("B", str(os.environ.get("LOCAL_RANK")), 1.0, None, "<=1")
        os._exit(9)

    found = {"bench_merge": leaves, "bench_slurm": ends}
    plain = command.importlib.import_module
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr("sys.argv", ["bench", "merge", "slurm"])
    monkeypatch.setattr(
        command.importlib,
        "import_module",
        lambda name: (
            SimpleNamespace(measures=found[name.rpartition(".")[2]]) if ".bench_" in name else plain(name)
        ),
    )
    assert command.main() == 1
    rows = json.loads((tmp_path / "build" / "bench.json").read_text())["measures"]
    assert [row.get("what") for row in rows[:2]] == ["a", "None"]
    assert rows[2]["skipped"] == "its process ended with code 9" and rows[2]["broke"]


def test_without_a_gpu_each_of_its_rows_says_so() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    rows = [row.to_dict() for row in bench_gpu_training.measures()]
    assert {row["id"] for row in rows} == set(bench_gpu_training.IDS)
    assert all("no CUDA GPU" in row["skipped"] for row in rows)


def test_the_wheels_are_named_with_the_versions_of_constraints() -> None:
    constraints = Path(__file__).parents[2] / "constraints.txt"
    text = "\n".join(gpu_wheels.table(constraints))
    for name, wanted in gpu_wheels.pins(constraints).items():
        if name in {wheel.name for wheel in gpu_wheels.WHEELS}:
            assert f"{name}=={wanted}" in text
    assert "flash-attn" in text and "pip download" in text


def test_rows_have_the_lengths_of_real_rationales(tmp_path: Path) -> None:
    """Encoded as a training does it."""
    from tests.bench.rationale_lengths import PROMPT_EXTRA
    from tests.training import tiny_student
    from undo_hpc.training.encoding import encode_spec
    from undo_hpc.training.spec import TrainSpec

    data = tiny_student.write_parquet(tmp_path / "data.parquet", bench_training_real.rows(16))
    tokenizer = tiny_student.make_tokenizer()
    spec = TrainSpec(
        train={"max_length": 2048},
        seed=0,
        model="tiny",
        data=[str(data)],
        work_dir=str(tmp_path),
        out_dir=str(tmp_path / "out"),
        run_id="bench",
        instruction=".",
    )
    found = encode_spec(spec, tokenizer)
    assert found.prompts.tolist() == [prompt + PROMPT_EXTRA for prompt, _ in PAIRS[:16]]
    assert found.targets.tolist() == [answer + 1 for _, answer in PAIRS[:16]]  # and the end of the turn


def test_goodput_is_told_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps of a second: begun 9 s after the submission, preempted behind the third; the next process begins 8 s later, loads for 5 s,
    and does the third step again."""
    pytest.importorskip("submitit")
    from tests.bench import bench_goodput

    monkeypatch.setattr(bench_goodput, "STEPS", 6)
    done = [(10.0, 1), (11.0, 2), (12.0, 3), (26.0, 3), (27.0, 4), (28.0, 5), (29.0, 6)]
    (tmp_path / "ours.steps").write_text("".join(f"{when} {step}\n" for when, step in done))
    (tmp_path / "ours.starts").write_text("4.0\n20.0\n")
    found = bench_goodput.figures_of(tmp_path, "ours", began=0.0)
    assert found.goodput == pytest.approx(6 / 20) and found.whole == pytest.approx(6 / 29)
    assert found.parts == {"first_start": 9.0, "again": 1.0, "away": 8.0, "loading": 5.0}
    (tmp_path / "ours.steps").write_text("")
    assert bench_goodput.figures_of(tmp_path, "ours", began=0.0).goodput == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_a_trace_has_as_many_preemptions_as_its_rate_says(seed: int) -> None:
    pytest.importorskip("submitit")
    from tests.bench.bench_goodput import MEAN_S, trace

    moments = trace(seed, 4 * MEAN_S)
    assert len(moments) == 4 and moments == sorted(moments) == trace(seed, 4 * MEAN_S)
    assert moments[0] >= 30 and moments[-1] <= 4 * MEAN_S - 30


def test_what_reads_targets_in_processes_of_its_own_still_finds_what_it_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its code is a text, in which no type checker finds a key that has another place by now."""
    Path("build").mkdir(exist_ok=True)
    monkeypatch.setattr(bench_targets, "SIZES", (2_000,))
    monkeypatch.setattr(bench_targets, "REPEATS", 2)
    rows = [row.to_dict() for row in bench_targets.measures()]
    assert {row["id"] for row in rows} >= {"P11-task-memory-2000", "P11-plan-memory-2000"}
    assert all(row["ours"] is not None for row in rows)
