"""A user's mistakes: each a clear message on one screen, a non-zero exit code, nothing lost, no traceback."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.e2e.campaign import Small
from undo_hpc.tiny import models_dir

GOOD = [
    {"problem": f"Ann has {k} apples and buys {k + 3}. How many has she?", "answer": str(2 * k + 3)}
    for k in range(60)
]


def launch(tmp_path: Path, *more: str, sets: tuple[str, ...] = ()) -> tuple[int, str]:
    done = Small(tmp_path / "run", sets=("name=bad", *sets)).launch(*more)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.returncode, done.stderr


def data(tmp_path: Path, text: str, name: str = "data.jsonl") -> str:
    path = tmp_path / name
    path.write_text(text)
    return f"data.train={json.dumps({'path': str(path)})}"


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["data.jsonl", "empty"]),
        (lines(GOOD)[:-30], ["data.jsonl", "line 60"]),
        (lines([{"text": "x", "reply": "1"}] * 3), ["problem", "'text'"]),
        (lines([{"problem": "p", "answer": None}] * 3), ["answer"]),
        ('{"problem": "Why?", "answer": NaN}\n', ["NaN"]),
    ],
    ids=["empty file", "invalid JSON", "wrong field", "no answer", "NaN"],
)
def test_data_that_cannot_be_used(tmp_path: Path, text: str, words: list[str]) -> None:
    code, error = launch(tmp_path, sets=(data(tmp_path, text),))
    assert code == 2
    for word in words:
        assert word.lower() in error.lower(), error


def test_no_such_file(tmp_path: Path) -> None:
    code, error = launch(tmp_path, sets=("data.train={path: /nowhere/at/all.jsonl}",))
    assert code == 2 and "/nowhere/at/all.jsonl" in error


def test_duplicates_and_test_problems_in_train_are_listed_and_left_out(tmp_path: Path) -> None:
    from undo_hpc.config.load import load_config
    from undo_hpc.pipeline.run import create_or_open
    from undo_hpc.stages.prepare import prepare

    bench = tmp_path / "bench.yaml"
    (tmp_path / "test.jsonl").write_text(lines([GOOD[5]]))
    bench.write_text("title: mine\nsource: {path: test.jsonl}\n")
    sets = [
        "name=x",
        data(tmp_path, lines([*GOOD, GOOD[0]])),
        f"evaluate.benchmarks=[{bench}]",
        "data.ngram=13",
        "data.validation=5",
        "data.diagnosis=5",
    ]
    config = load_config("tiny", sets)
    run = create_or_open(config, tmp_path / "run", command=[])
    manifest = prepare(run)
    assert manifest.counts["duplicates"] == 1 and manifest.counts["contaminated"] == 1
    rejected = [
        json.loads(line) for line in (tmp_path / "run" / "splits" / "rejected.jsonl").read_text().splitlines()
    ]
    assert {r["row"] for r in rejected} == {5, 60}
    assert any("contamination" in r["reason"] and "bench" in r["reason"] for r in rejected)
    used = {p.problem for split in ("train", "diagnosis", "validation") for p in run.problems(split)}
    assert len(used) == 59 and GOOD[5]["problem"] not in used
    told = prepare(
        create_or_open(
            load_config("tiny", [*sets, "data.contamination=report"]), tmp_path / "told", command=[]
        )
    )
    assert (told.counts["contaminated"], told.counts["rejected"]) == (1, 1), (
        "what is only reported is not left out"
    )


def test_a_model_directory_without_tokenizer(tmp_path: Path) -> None:
    broken = tmp_path / "model"
    broken.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(models_dir() / "student" / name, broken / name)
    code, error = launch(tmp_path, sets=(f"student.model={broken}",))
    assert code == 2 and "tokenizer" in error


def test_a_base_model_that_changed_since_the_run_began(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from undo_hpc.config.load import load_config
    from undo_hpc.pipeline.run import create_or_open
    from undo_hpc.stages.prepare import prepare

    model = tmp_path / "model"
    shutil.copytree(models_dir() / "student", model)
    sizes = ("data.validation=5", "data.diagnosis=5", "evaluate.benchmarks=[]")
    sets = ("name=bad", *sizes, data(tmp_path, lines(GOOD)), f"student.model={model}")
    run = create_or_open(load_config("tiny", sets), tmp_path / "run", command=[])
    first = prepare(run)
    assert prepare(run) == first
    tensors = {name: tensor * 1.01 for name, tensor in load_file(model / "model.safetensors").items()}
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    done = Small(tmp_path / "run", sets=sets).launch()
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        f"student.model: {model} is not the model that this run began with: model.safetensors changed"
        in done.stderr
    )
    assert "another --run-dir" in done.stderr
    assert not (tmp_path / "run" / "iter_000").exists()
    shutil.copy(models_dir() / "student" / "model.safetensors", model / "model.safetensors")
    assert prepare(run) == first  # put back: a new time of change is no change


def test_unknown_key_and_preset(tmp_path: Path) -> None:
    code, error = launch(tmp_path, sets=("train.epoch=3",))
    assert code == 2 and "did you mean 'epochs'" in error
    command = ["tinny" if word == "tiny" else word for word in Small(tmp_path / "r", sets=()).command()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "did you mean 'tiny'" in done.stderr


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    code, error = launch(tmp_path)
    assert code == 2 and "is no run directory" in error
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_read_only_place(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        run_dir = Path("/proc/undo-run")  # root may write anywhere but here
        command = Small(run_dir, sets=("name=bad",)).command()
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
        assert "/proc/undo-run" in done.stderr
        return
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o500)
    code, error = launch(tmp_path)
    assert code != 0 and "cannot write" in error


def test_dry_run_touches_nothing(tmp_path: Path) -> None:
    for preset in ("tiny", "numina10k_qwen", "numina100k_qwen"):
        command = [*Small(tmp_path / "run", sets=()).command("--dry-run")]
        command[command.index("tiny")] = preset
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        if "vLLM is not installed" in done.stderr:
            missing("vLLM")
        assert done.returncode == 0, done.stderr
        for stage in ("generate", "merge", "train", "evaluate", "advance"):
            assert stage in done.stdout
    assert list(tmp_path.iterdir()) == []
