"""The shapes of others, as they come out of a run."""

from __future__ import annotations

import json
from pathlib import Path

from tests.observe.synthetic import RunBuilder
from undo_hpc.observe.exports import write_chat, write_lm_eval
from undo_hpc.pipeline.run import open_run


def test_lm_eval_results_agree_with_our_metrics(finished: Path) -> None:
    run = open_run(finished)
    for number in range(3):
        at = run.layout.iteration(number)
        (path,) = at.lm_eval.glob("*/results_*.json")
        results, metrics = json.loads(path.read_text()), json.loads(at.metrics.read_text())
        assert set(results["results"]) == {"gsm", "hard"}, "splits of ours are no benchmarks"
        for name, scores in results["results"].items():
            assert scores["exact_match,undo"] == metrics["sets"][name]["accuracy"]
            (samples,) = path.parent.glob(f"samples_{name}_*.jsonl")
            assert len(samples.read_text().splitlines()) == metrics["sets"][name]["n"]


def test_writing_again_leaves_one_result(copied: Path) -> None:
    run = open_run(copied)
    write_lm_eval(run, 1)
    write_lm_eval(run, 1)
    assert len(list(run.layout.iteration(1).lm_eval.rglob("results_*.json"))) == 1


def test_a_run_without_benchmarks_has_no_results(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", problems=20, benchmarks={}).play(1)
    assert write_lm_eval(run, 0) is None


def test_chat_rows_are_what_the_student_is_trained_on(copied: Path) -> None:
    run = open_run(copied)
    assert not run.layout.iteration(0).chat.exists(), "only by option"
    rows = [json.loads(line) for line in write_chat(run, 0).read_text().splitlines()]
    manifest = json.loads(run.layout.iteration(0).stage_manifest("merge").read_text())
    assert len(rows) == manifest["counts"]["rows"]
    roles = [message["role"] for message in rows[0]["messages"]]
    described = json.loads(run.layout.iteration(0).chat.with_name("dataset_info.json").read_text())["undo"]
    assert described["file_name"] == "chat.jsonl" and described["columns"] == {"messages": "messages"}
    assert set(described["tags"].values()) == {"role", "content", "user", "assistant", "system"}
    assert roles == ["user", "assistant"] and "\\boxed" in rows[0]["messages"][1]["content"]
