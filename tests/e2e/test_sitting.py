"""One sitting of a person who has read the README: a published set is taken in and learned from, models are evaluated, a benchmark is
added, another learning rate is tried, what was fixed is looked at, pairs are exported, room is made. In the tiny world and on real rows.
And one of a person who knows the reference implementation's commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from undo_hpc.cli import main
from undo_hpc.cli.reference import student, teacher
from undo_hpc.pipeline.run import open_run
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.tiny.world import problems

pytestmark = pytest.mark.slow

Say = Callable[..., str]
SMALL = {
    "name": "mine",
    "iterations": 1,
    "student": {"model": "tiny:student", "dtype": "float32", "prompt": "tiny"},
    "train": {"epochs": 1, "precision": "fp32", "zero_stage": 0, "max_length": 1024, "preflight": False},
    "evaluate": {"sampling": {"max_new_tokens": 16}, "limit": 6},
    "storage": {"flush_rows": 16},
}


def jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def publish(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A published set: for every fifth problem it holds a wrong rationale, too."""
    wrong = [row | {"teacher_solution": "It is clear.\n\\boxed{-1}"} for row in rows[::5]]
    return jsonl(path, [*rows, *wrong])


def tiny_world(folder: Path) -> tuple[Path, list[str]]:
    """A published set of the tiny world, and four benchmarks."""
    rows = [
        {"problem": p["problem"], "teacher_solution": p["solution"], "gt": p["answer"]}
        for p in problems("train", 48, 1)
    ]
    tests = problems("test", 24, 1)
    files = [jsonl(folder / f"test-{name}.jsonl", tests[6 * k : 6 * k + 6]) for k, name in enumerate("abcd")]
    return publish(folder / "published.jsonl", rows), [str(path) for path in files]


def real_rows(folder: Path, shared: Path) -> tuple[Path, list[str]]:
    """Two hundred rows of GSM8K as somebody may have published them, and four real benchmarks."""
    rows = []
    for line in (shared / "gsm8k" / "train.jsonl").read_text().splitlines()[:200]:
        row = json.loads(line)
        text, _, truth = row["answer"].partition("####")
        rows.append(
            {
                "problem": row["question"],
                "teacher_solution": f"{text}\\boxed{{{truth.strip()}}}",
                "gt": truth.strip(),
            }
        )
    files = {
        "math500": "math500/math500_test.json",
        "svamp": "svamp/SVAMP.json",
        "mmlu_pro_math": "mmlu_pro/mmlu_pro_math.jsonl",
    }
    overrides = {name: {"path": str(shared / path)} for name, path in files.items()}
    (folder / "real.json").write_text(json.dumps(overrides))
    return publish(folder / "published.jsonl", rows), [*overrides, str(shared / "gsm8k" / "test.jsonl")]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Types a command; returns what it prints."""

    def typed(*words: object, code: int = 0) -> str:
        capsys.readouterr()
        ended = main([str(word) for word in words])
        told = capsys.readouterr()
        assert ended == code, (words, told.out[-2000:], told.err[-2000:])
        return told.out + told.err

    return typed


@pytest.mark.parametrize("world", ["tiny", "real"])
def test_a_sitting(world: str, request: pytest.FixtureRequest, tmp_path: Path, say: Say) -> None:
    if world == "tiny":
        published, (one, two, three, four) = tiny_world(tmp_path)
        overrides: dict[str, Any] = {}
    else:
        published, (one, two, three, four) = real_rows(tmp_path, request.getfixturevalue("shared_data"))
        overrides = json.loads((tmp_path / "real.json").read_text())
    given = {"path": str(published)}
    held_out = {"validation": 12, "diagnosis": 0, "contamination": "off", "train": given, "rationales": given}
    asked = {"benchmarks": [one, two, three], "overrides": overrides}
    config = tmp_path / "my.yaml"
    config.write_text(yaml.safe_dump(SMALL | {"data": held_out, "evaluate": SMALL["evaluate"] | asked}))
    run, forked, alone = tmp_path / "run", tmp_path / "other", tmp_path / "alone"
    names = [Path(name).stem for name in (one, two, three, four)]

    assert "no teacher" in say("run", "--config", config, "--run-dir", run, "--dry-run") and not run.exists()
    assert "rationales that exist already" in say("run", "--config", config, "--run-dir", run)
    metrics = json.loads((run / "iter_000" / "metrics.json").read_text())
    for model in ("baseline", "sets"):  # two models on three benchmarks
        assert [metrics[model][name]["n"] for name in names[:3]] == [6, 6, 6]
    assert metrics["generate"]["new_tokens"] == 0 and metrics["distilled"]["rows"] >= 30
    assert metrics["distilled"]["dropped"]["wrong"] >= 5, "graded as a teacher's are"

    before = read_manifest(open_run(run).layout.iteration(0).stage_manifest("train"))
    say("evaluate", run, "--benchmarks", four, "--limit", 6)
    metrics = json.loads((run / "iter_000" / "metrics.json").read_text())
    assert sorted(name for name in metrics["sets"] if names[3] in name), "the fourth benchmark"
    assert read_manifest(open_run(run).layout.iteration(0).stage_manifest("train")) == before

    if world == "tiny":  # each costs seconds, and what differs by world is the data
        student = run / "iter_000" / "student"
        more = ["--set", "evaluate.sampling.max_new_tokens=16", "--set", "student.prompt=tiny", "--limit", 2]
        more += ["--set", f"evaluate.overrides={json.dumps(overrides)}"]
        say("evaluate", student, "--benchmarks", f"{one},{two},{three}", "--run-dir", alone, *more)
        found = json.loads((alone / "iter_000" / "metrics.json").read_text())["baseline"]
        assert [found[name]["n"] for name in names[:3]] == [2, 2, 2]

    taken = say("fork", run, forked, "--set", "train.learning_rate=0.001")
    assert "taken over generate" in taken and "baseline" in taken and "merge" in taken
    say("run", "--run-dir", forked)
    texts = {
        path: next((path / "iter_000" / "student").glob("*.safetensors")).read_bytes()
        for path in (run, forked)
    }
    assert texts[run] != texts[forked], "another student"
    assert names[0] in say("compare", run, forked, "--benchmark", names[0])

    assert "of" in say("show", run, "--fixed")
    pairs = say("export", run, "--format", "preference")
    assert "rows of iteration 0" in pairs
    assert "removed" in say("prune", run, "--keep", "best")
    say("status", run)
    say("report", run)


def test_the_reference_implementations_own_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """teacher.py writes rationales, student.py --mode train learns them, --mode test answers; each file has the fields it has there."""
    monkeypatch.chdir(tmp_path)
    rows = problems("train", 12, 1)
    jsonl(tmp_path / "mine.jsonl", rows)
    jsonl(tmp_path / "asked.jsonl", problems("test", 4, 1))
    tiny = ["teacher.model=tiny:teacher", "teacher.prompt=tiny", "teacher.dtype=float32", "generate.engine.name=transformers",
            "evaluate.engine.name=transformers", "generate.sampling.max_new_tokens=80", "generate.max_attempts=1"]  # fmt: skip
    sets = [word for item in tiny for word in ("--set", item)]
    assert (
        teacher(
            [
                "--dataset",
                "mine.jsonl",
                "--output",
                "taught.jsonl",
                "--run-dir",
                "t",
                "--cluster",
                "local",
                *sets,
            ]
        )
        == 0
    )
    taught = [json.loads(line) for line in Path("taught.jsonl").read_text().splitlines()]
    assert len(taught) >= 8 and list(taught[0]) == ["problem", "teacher_solution", "student_solution", "gt"]
    known = {row["problem"]: row["answer"] for row in rows}
    assert all(known[row["problem"]] == row["gt"] and row["teacher_solution"] for row in taught)

    learned = [
        "--train_epochs",
        "1",
        "--lr",
        "1e-4",
        "--per_device_train_batch_size",
        "1",
        "--gradient_accumulation_steps",
        "1",
    ]
    tiny = ["student.prompt=tiny", "student.dtype=float32", "train.precision=fp32", "train.zero_stage=0", "train.preflight=false",
            "evaluate.sampling.max_new_tokens=24"]  # fmt: skip
    sets = [word for item in tiny for word in ("--set", item)]
    where = ["--save_dir", "s", "--model_path", "tiny:student"]
    assert (
        student(
            [
                "--mode",
                "train",
                "--dataset",
                "taught.jsonl",
                "--output",
                "both.jsonl",
                *where,
                *learned,
                *sets,
            ]
        )
        == 0
    )
    both = [json.loads(line) for line in Path("both.jsonl").read_text().splitlines()]
    assert (
        list(both[0]) == list(taught[0])
        and len(both) == len(taught)
        and any(row["student_solution"] for row in both)
    )

    where = ["--model_path", "s/iter_000/student", "--run-dir", "e"]
    assert (
        student(["--mode", "test", "--dataset", "asked.jsonl", "--output", "out.jsonl", *where, *sets]) == 0
    )
    out = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert len(out) == 4 and list(out[0]) == ["idx", "problem", "student_solution", "gt", "evaluation"]
    assert {type(row["evaluation"]) for row in out} == {bool}
    assert "0 of" not in capsys.readouterr().err
