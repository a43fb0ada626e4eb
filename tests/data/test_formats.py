"""The shapes that others read: chat messages, and lm-evaluation-harness's results and samples."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

from undo_hpc.data.formats import (
    llama_factory_info,
    lm_eval_file_names,
    lm_eval_results,
    lm_eval_samples,
    to_messages,
)
from undo_hpc.records import Attempt, Example, Problem, Verdict

# the keys and types of EvalResults, _TaskMetrics and SampleResult in lm_eval/result_schema.py (commit 4e7e0d4)
RESULT_KEYS: dict[str, type] = {
    "results": dict, "group_subtasks": dict, "configs": dict, "versions": dict, "n-shot": dict, "higher_is_better": dict,
    "n-samples": dict, "config": dict, "git_hash": str, "date": float, "task_hashes": dict, "model_source": str,
    "model_name": str, "model_name_sanitized": str, "total_evaluation_time_seconds": str,
}  # fmt: skip
SAMPLE_KEYS: dict[str, type] = {
    "doc_id": int, "doc": dict, "target": str, "arguments": dict, "resps": list, "filtered_resps": list, "filter": str,
    "metrics": list, "doc_hash": str, "prompt_hash": str, "target_hash": str, "exact_match": float,
}  # fmt: skip


def attempt(problem: str, number: int, verdict: Verdict) -> Attempt:
    return Attempt(
        problem,
        0,
        number,
        "student",
        f"text {number}",
        verdict,
        f"answer {number}",
        "plain",
        "stop",
        5,
        7,
        1,
        0.0,
    )


PROBLEMS = [Problem(f"p{i}", f"Problem {i}", str(i), i) for i in range(4)]


def samples(repeats: int) -> list[dict[str, Any]]:
    rows = [
        attempt(f"p{i}", k, "correct" if (i + k) % 2 else "wrong") for i in range(3) for k in range(repeats)
    ]
    return lm_eval_samples(
        PROBLEMS, reversed(rows), prompts={"p0": "Solve: Problem 0"}, generation={"temperature": 0.0}
    )


def test_messages() -> None:
    example = Example("i", 0, "What is 3+4?", "It is \\boxed{7}.", "7", 1, 0, "problem", "correct", 5)
    assert to_messages(example)["messages"] == [
        {"role": "user", "content": "What is 3+4?"},
        {"role": "assistant", "content": "It is \\boxed{7}."},
    ]
    full = to_messages(example, prompt="What is 3+4? Think.", system_prompt="Be brief.")["messages"]
    assert [m["role"] for m in full] == ["system", "user", "assistant"]
    assert full[1]["content"] == "What is 3+4? Think."
    assert llama_factory_info("mine", "a.jsonl")["mine"]["columns"] == {"messages": "messages"}


def test_messages_go_through_a_chat_template() -> None:
    """TRL hands the `messages` column to the tokenizer's chat template as it is."""
    import datasets

    example = Example("i", 0, "What is 3+4?", "It is \\boxed{7}.", "7", 1, 0, "problem", "correct", 5)
    rows = datasets.Dataset.from_list([to_messages(example)])
    assert rows[0]["messages"][1]["content"] == "It is \\boxed{7}."


def test_samples_have_the_published_keys() -> None:
    rows = samples(1)
    assert [row["doc_id"] for row in rows] == [0, 1, 2], "unanswered problems have no line"
    for row in rows:
        assert {key: type(row[key]) for key in SAMPLE_KEYS} == SAMPLE_KEYS
        assert row["metrics"] == ["exact_match"]
    assert rows[0]["arguments"] == {
        "gen_args_0": {"arg_0": "Solve: Problem 0", "arg_1": {"temperature": 0.0}}
    }
    assert rows[0]["resps"] == [["text 0"]]
    assert rows[0]["filtered_resps"] == ["answer 0"]
    assert [row["exact_match"] for row in rows] == [0.0, 1.0, 0.0]
    assert len({row["doc_hash"] for row in rows}) == 3
    json.dumps(rows)


def test_repeats_are_averaged() -> None:
    rows = samples(2)
    assert rows[0]["resps"] == [["text 0", "text 1"]]
    assert [row["exact_match"] for row in rows] == [0.5, 0.5, 0.5]


def test_results_have_the_published_keys() -> None:
    when = datetime(2025, 4, 3, 12, 30, 15, 250)
    results = lm_eval_results(
        {"gsm8k": samples(1)},
        model="a/b",
        titles={"gsm8k": "GSM8K"},
        sizes={"gsm8k": 4},
        started=when,
        seconds=2.5,
        seed=3,
    )
    assert {key: type(results[key]) for key in RESULT_KEYS} == RESULT_KEYS
    task = results["results"]["gsm8k"]
    assert (task["name"], task["alias"], task["sample_len"]) == ("gsm8k", "GSM8K", 3)
    assert math.isclose(task["exact_match,undo"], 1 / 3)
    assert math.isclose(task["exact_match_stderr,undo"], math.sqrt(2 / 9 * 3 / 2 / 3))
    assert results["n-samples"] == {"gsm8k": {"original": 4, "effective": 3}}
    assert results["model_name_sanitized"] == "a__b"
    assert lm_eval_file_names("a/b", "gsm8k", when) == (
        "a__b/results_2025-04-03T12-30-15.000250.json",
        "a__b/samples_gsm8k_2025-04-03T12-30-15.000250.jsonl",
    )
    json.dumps(results)
