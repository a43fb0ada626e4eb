"""What a dry run shows of prompts and training, and that it finds what would only come out in a task."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from undo_hpc.cli import main
from undo_hpc.config.load import load_config
from undo_hpc.observe.preview import samples
from undo_hpc.pipeline.layout import Layout
from undo_hpc.records import Problem
from undo_hpc.tiny import models_dir

PROBLEM = Problem("p", "Lou has 31 pears and eats 4. How many are left?", "27", 5)


def shown(*sets: str, problem: Problem | None = PROBLEM) -> dict[str, tuple[str, str]]:
    found = samples(load_config("tiny", list(sets)), problem, "2026-02-03")
    return {sample.title: (sample.remark, sample.text) for sample in found}


def test_each_prompt_stands_in_its_chat_template() -> None:
    found = shown("student.system_prompt=''", "teacher.instruction=Briefly.")
    teacher, refinement, student = (
        found[name][1] for name in ("teacher prompt", "refinement prompt", "student prompt")
    )
    for text in (teacher, refinement, student):
        assert text.startswith("<|user|>") and PROBLEM.problem in text and text.endswith("<|assistant|>")
    assert "27" not in teacher + student, "nobody is shown the ground truth"
    assert "Student:" in refinement and "wrong" in refinement
    assert "made up" in found["refinement prompt"][0] and "made up" not in found["teacher prompt"][0]


def test_the_loss_falls_on_the_answer_and_the_end_of_turn() -> None:
    remark, text = shown()["tokens under the loss"]
    assert text.endswith("|<|end|>") and "pears" not in text
    assert (
        f"then these {text.count('|') - 2 + 0}" not in remark
    )  # bars inside the end token are no separators
    assert "the rationale is made up" in remark
    own = Problem("p", "1 + 1?", "2", 0, solution="1 + 1 = \\boxed{2}")
    remark, text = shown(problem=own)["tokens under the loss"]
    assert "data's own solution" in remark and text.replace("|", "").replace(" ", "").startswith(
        "1+1=\\boxed{2}"
    )
    assert "over train.max_length (16): drop" in shown("train.max_length=16")["tokens under the loss"][0]


def test_what_does_not_apply_is_said_so() -> None:
    assert "one iteration" in shown("iterations=1")["refinement prompt"][0]
    truth = shown("method.condition=ground_truth")
    assert "own solutions" in truth["teacher prompt"][0] and "refinement prompt" not in truth
    blind = shown("method.condition=blind")["refinement prompt"]
    assert "attempt" not in blind[0] and "Student:" not in blind[1]
    assert "made-up problem" in shown(problem=None)["student prompt"][0]
    server = [
        "generate.engine.name=openai",
        "generate.engine.openai.base_url=http://host:1/v1",
        "teacher.model=big",
    ]
    assert "server's chat template is not known" in shown(*server)["teacher prompt"][0]
    hub = shown("teacher.model=owner/never-heard-of")["teacher prompt"]
    assert "without the chat template of owner/never-heard-of" in hub[0] and PROBLEM.problem in hub[1]


def test_a_piped_dry_run_fits_80_columns_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"""
import sys
from undo_hpc.cli import main
assert main(["run", "--config", "tiny", "--run-dir", {str(tmp_path / "r")!r}, "--dry-run"]) == 0
print([m for m in ("torch", "transformers", "datasets", "deepspeed") if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr.strip() == "[]"
    assert max(map(len, done.stdout.splitlines())) <= 80
    for title in ("teacher prompt", "refinement prompt", "student prompt", "tokens under the loss"):
        assert f"  {title} (" in done.stdout
    assert "greedy (temperature 0)" in done.stdout and "Not checked here" in done.stdout
    assert not (tmp_path / "r").exists()


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def tokenizer_without_template(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("chat_template", None)
    path.write_text(json.dumps(settings))
    (folder / "chat_template.jinja").unlink(missing_ok=True)


BROKEN = {
    "cut short": (lambda at: cut(at / "model.safetensors", 1000), "cut short"),
    "header": (lambda at: (at / "model.safetensors").write_bytes(b"\xff" * 4000), "cut short, or no safetensors"),
    "header is no JSON": (lambda at: (at / "model.safetensors").write_bytes((3).to_bytes(8, "little") + b"abc"), "header is damaged"),
    "too long": (lambda at: (at / "model.safetensors").open("ab").write(b"x" * 9), "9 bytes more"),
    "no template": (tokenizer_without_template, "no chat template"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_damaged_model_is_found_by_dry_run_and_launcher(
    kind: str, role: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, word = BROKEN[kind]
    folder = Path(shutil.copytree(models_dir() / "student", tmp_path / "model"))
    spoil(folder)
    words = ["run", "--config", "tiny", "--run-dir", str(tmp_path / "run"), "--set", f"{role}.model={folder}"]
    for further in (["--dry-run"], []):
        assert main([*words, *further]) == 2
        said = capsys.readouterr().err
        assert word in said and str(folder) in said, said
    assert not (tmp_path / "run").exists()


def test_an_index_that_promises_more_than_its_files_hold(tmp_path: Path) -> None:
    from undo_hpc.models.files import damaged_files

    folder = Path(shutil.copytree(models_dir() / "student", tmp_path / "model"))
    part = (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with part.open("rb") as file:
        names = list(json.loads(file.read(int.from_bytes(file.read(8), "little"))))
    weights = {name: part.name for name in names if name != "__metadata__"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    assert damaged_files(folder) == []
    index.write_text(json.dumps({"weight_map": weights | {"lm_head.more": part.name}}))
    assert "lm_head.more" in damaged_files(folder)[0]


def test_changed_data_and_damaged_splits_of_a_run_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from undo_hpc.pipeline.run import create_or_open
    from undo_hpc.stages.prepare import prepare

    data = tmp_path / "mine.jsonl"
    rows = [{"problem": f"What is {n} and {n + 3}?", "answer": str(2 * n + 3)} for n in range(60)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = [
        f"data.train.path={data}",
        "data.train.tiny=''",
        "data.train.sample=null",
        "data.validation=5",
        "data.diagnosis=5",
    ]
    run_dir = tmp_path / "run"
    prepare(create_or_open(load_config("tiny", sets), run_dir, command=["test"]))
    words = ["run", "--run-dir", str(run_dir), "--dry-run"]
    assert main(words) == 0
    assert "changed since" not in " ".join(capsys.readouterr().out.split())
    data.write_text(data.read_text().replace("What is 7", "What was 7"))
    assert main(words) == 0, "the run has its own copy"
    said = " ".join(capsys.readouterr().out.split())
    assert f"warning: data.train: {data} changed since this run began" in said and "--run-dir" in said
    split = Layout(run_dir).split("train")
    split.write_bytes(split.read_bytes().replace(b"What is", b"What as", 1))
    assert main(words) == 2, "a person has to put the file back"
    assert "frozen problems are damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("method.hint=step", "The first step of the attempt that fails: 1 + 1 = 3"),
        ("method.hint=kind", "The attempt's error: a false calculation."),
        ("method.show_score=true", "(wrong, score 0 of 1)"),
        ("method.history=all", "## Solution of iteration 0"),
        ("method.examples=2", "A made-up problem."),
    ],
)
def test_what_the_method_shows_stands_in_the_preview(method: str, words: str) -> None:
    plain = shown("teacher.prompt=default")["refinement prompt"][1]
    switched = shown("teacher.prompt=default", method)["refinement prompt"][1]
    assert words in switched and words not in plain
