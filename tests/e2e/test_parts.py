"""The parts alone, one after another with the tiny models: generate, train on what came of it, evaluate the student; then the same run goes on."""

import json
from pathlib import Path

import pytest

from undo_hpc.cli import main
from undo_hpc.control.planning import current_state
from undo_hpc.data.distilled import read_distilled
from undo_hpc.pipeline.run import open_run
from undo_hpc.storage.manifest import read_manifest

pytestmark = pytest.mark.slow

SMALL = ["generate.sampling.max_new_tokens=80", "evaluate.sampling.max_new_tokens=40", "train.epochs=1", "train.precision=fp32",
         "train.zero_stage=0", "train.max_length=512", "cluster.max_processes=1"]  # fmt: skip
SETS = [word for value in SMALL for word in ("--set", value)]


def test_generate_then_train_then_evaluate_then_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, taught, asked = (tmp_path / name for name in ("made", "taught", "asked"))
    rows, answers = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    files = ["--set", f"display.rows_file={rows}"]
    assert (
        main(
            ["generate", "tiny:teacher", "tiny:train", "--limit", "12", "--run-dir", str(made), *SETS, *files]
        )
        == 0
    )
    run = open_run(made)
    state = current_state(run)
    assert state.ended is not None and "ends behind merge" in state.ended.why
    assert [stage.name for stage in state.stages] == ["generate", "merge", "advance"]
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    assert written and list(written[0]) == ["problem", "teacher_solution", "student_solution", "gt"]
    assert "undo-hpc train MODEL" in capsys.readouterr().out

    assert main(["train", "tiny:student", str(made), "--run-dir", str(taught), *SETS]) == 0
    before, after = (
        [e.teacher_solution for e in read_distilled(folder / "iter_000" / "distilled")]
        for folder in (made, taught)
    )
    assert before == after and {e.style for e in read_distilled(taught / "iter_000" / "distilled")} == {
        "given"
    }
    student = taught / "iter_000" / "student"

    files = ["--set", f"display.rows_file={answers}", "--set", "student.prompt=tiny"]
    words = ["evaluate", str(student), "--benchmarks", "tiny", "--limit", "6", "--run-dir", str(asked)]
    assert main([*words, *SETS, *files]) == 0
    written = [json.loads(line) for line in answers.read_text().splitlines()]
    assert len(written) == 6 and list(written[0]) == [
        "idx",
        "problem",
        "student_solution",
        "gt",
        "evaluation",
    ]
    figures = json.loads((asked / "iter_000" / "metrics.json").read_text())["baseline"]["tiny"]
    assert figures["n"] == 6 and figures["correct"] == sum(row["evaluation"] for row in written)

    merged = read_manifest(open_run(taught).layout.iteration(0).stage_manifest("merge"))
    whole = ["--set", "student.prompt=tiny"]
    assert (
        main(["run", "--run-dir", str(taught), "--until", "all", *whole]) == 0
    )  # the student answers what it learned from
    run = open_run(taught)
    state = current_state(run)
    assert state.ended is not None and "evaluate" in {stage.name for stage in state.stages}
    assert read_manifest(run.layout.iteration(0).stage_manifest("merge")) == merged  # nothing was done again
    assert json.loads((run.layout.iteration(0).metrics).read_text())["sets"]["train"]["n"] == len(before)
    for name in ("status", "report"):
        assert main([name, str(made)]) == 0


def test_a_smoke_test_runs_beside_the_run_and_says_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real, words = tmp_path / "mine", ["run", "--config", "tiny", "--set", "iterations=1", *SETS]
    assert main([*words, "--run-dir", str(real), "--smoke", "16"]) == 0
    said = capsys.readouterr().out
    assert "attempts right" in said and "tokens/s" in said and "student's encoding: takes" in said
    assert not real.exists() and open_run(tmp_path / "mine-smoke").config.data.train.sample == 16
    assert main([*words, "--run-dir", str(real), "--smoke", "16"]) == 0, "again: shows the figures again"
    assert "tokens/s" in capsys.readouterr().out
    assert main([*words, "--run-dir", str(real), "--smoke", "24"]) == 2
    assert "data.train.sample" in capsys.readouterr().err
    real.with_name("other-smoke").symlink_to(tmp_path / "mine-smoke")
    assert main([*words, "--run-dir", str(tmp_path / "other"), "--set", "name=other", "--smoke", "16"]) == 2
    assert "another run" in capsys.readouterr().err
