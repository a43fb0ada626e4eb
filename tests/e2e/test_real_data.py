"""Two hundred real GSM8K rows and the four real benchmarks through the whole graph: accuracy is near zero, the flow is not."""

import json
from pathlib import Path

import pytest

from tests.e2e.campaign import Small
from undo_hpc.storage.shards import read_rows

pytestmark = pytest.mark.slow


def test_the_whole_graph_on_real_rows(shared_data: Path, tmp_path: Path) -> None:
    overrides = {
        "gsm8k": {"path": str(shared_data / "gsm8k" / "test.jsonl")},
        "math500": {"path": str(shared_data / "math500" / "math500_test.json")},
        "svamp": {"path": str(shared_data / "svamp" / "SVAMP.json")},
        "mmlu_pro_math": {"path": str(shared_data / "mmlu_pro" / "mmlu_pro_math.jsonl")},
    }
    rows = (shared_data / "gsm8k" / "train.jsonl").read_text().splitlines()[:200]
    (tmp_path / "train.jsonl").write_text("\n".join(rows) + "\n")
    small = Small(
        tmp_path / "run",
        sets=(
            "name=real",
            "iterations=1",
            f"data.train={json.dumps({'path': str(tmp_path / 'train.jsonl')})}",
            "data.validation=20",
            "data.diagnosis=20",
            "data.ngram=13",
            f"evaluate.benchmarks={json.dumps(list(overrides))}",
            f"evaluate.overrides={json.dumps(overrides)}",
            "evaluate.limit=12",
            "generate.max_attempts=1",
            "method.wrong_rationales=keep",
            "generate.quality.max_repeated_lines=1.0",
            "generate.quality.drop_truncated=false",
            "generate.sampling.max_new_tokens=48",
            "evaluate.sampling.max_new_tokens=48",
            "train.epochs=1",
            "train.max_length=1024",
        ),
    )
    done = small.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((small.run_dir / "iter_000" / "metrics.json").read_text())
    assert {name: metrics["sets"][name]["n"] for name in overrides} == dict.fromkeys(overrides, 12)
    prepared = json.loads((small.run_dir / "splits" / "manifest.json").read_text())
    used = sum(prepared["counts"][name] for name in ("train", "diagnosis", "validation"))
    rejected = [
        row for row in read_rows(small.run_dir / "splits" / "rejected.jsonl") if row["set"] == "train"
    ]
    assert used + len(rejected) == 200
    truths = {row["ground_truth"] for row in read_rows(small.run_dir / "splits" / "train.jsonl")}
    assert all("####" not in truth and truth for truth in truths)
    assert metrics["generate"]["problems"] == prepared["counts"]["train"]
    for name in overrides:
        rows_ = [
            row
            for path in (small.run_dir / "iter_000" / "evaluate" / name).glob("shard-*.jsonl")
            for row in read_rows(path)
        ]
        assert len(rows_) == 12 and {r["verdict"] for r in rows_} <= {
            "correct",
            "wrong",
            "no_answer",
            "unparsed",
            "timeout",
        }
