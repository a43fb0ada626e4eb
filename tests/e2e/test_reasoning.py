"""A run whose student cannot learn the rationales as they are is fixed by one key, in the run as it stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.e2e.campaign import Small
from tests.training import tiny_student
from undo_hpc.models.resolve import resolve_model


def thinking_off(place: Path) -> Path:
    """The tiny student with a template that ends its prompt with an empty block, as Qwen3 does with enable_thinking: false."""
    shutil.copytree(resolve_model("tiny:student"), place)
    path = place / "chat_template.jinja"
    template = path.read_text()
    assert template.count("'<|assistant|>'") == 1, "the tiny template has changed"
    path.write_text(template.replace("'<|assistant|>'", "'<|assistant|><think></think>'"))
    return place


def test_rows_with_reasoning_are_left_out_and_the_same_run_learns_their_answers(tmp_path: Path) -> None:
    rows = [
        {
            "problem": r["problem"],
            "answer": r["gt"],
            "solution": f"<think>\n{r['gt']}?\n</think>\n\n{r['teacher_solution']}",
        }
        for r in tiny_student.rows(24)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    student = thinking_off(tmp_path / "student")
    sets = (
        "name=reasoning", "iterations=1", f"data.train={json.dumps({'path': str(data)})}", "data.validation=4", "data.diagnosis=4",
        "method.condition=ground_truth", f"student.model={student}", "evaluate.benchmarks=[]", "evaluate.baseline=false",
        "evaluate.train_predictions=false", "method.errors_from=diagnosis", "train.max_steps=2", "train.max_length=75",
    )  # fmt: skip
    run = Small(tmp_path / "run", sets=sets)
    first = run.launch()
    assert "Traceback" not in first.stdout + first.stderr
    assert first.returncode != 0
    assert (
        "student: rationales with reasoning will be left out of training" in first.stdout + first.stderr
    )  # said before any work
    assert "it has reasoning, and the student's prompt turns thinking off" in first.stdout + first.stderr
    assert "student.reasoning to strip" in first.stdout + first.stderr
    distilled = (run.run_dir / "iter_000" / "distilled" / "distilled-00000.parquet").read_bytes()

    second = Small(tmp_path / "run", sets=(*sets, "student.reasoning=strip")).launch()
    assert second.returncode == 0, second.stdout + second.stderr
    at = run.run_dir / "iter_000"
    assert (at / "distilled" / "distilled-00000.parquet").read_bytes() == distilled
    metrics = json.loads((at / "metrics.json").read_text())["train"]
    assert metrics["rows_given"] == 16 > metrics["rows_learned"] > 0
    assert metrics["rows_left_out"] == {"longer than max_length (75)": 16 - metrics["rows_learned"]}
    assert f"{metrics['rows_learned']} of 16 rows learned" in second.stdout + second.stderr
    card = (at / "student" / "README.md").read_text()
    assert f"16 rows, {metrics['rows_learned']} learned" in card
