"""Values that are none, places that are not there: each verb says so with exit code 2, and leaves everything as it was."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from tests.cli.test_bad_input import call, require_message
from tests.docs.test_docs import parser_of
from undo_hpc.cli import VERBS
from undo_hpc.cli.reference import student_parser, teacher_parser
from undo_hpc.cli.run_campaign import build_parser as campaign_parser
from undo_hpc.pipeline.layout import Layout


@pytest.mark.parametrize(
    "words",
    ["show R -n -1", f"show R -n {10**30}", "evaluate R --benchmarks tiny --samples -3", "evaluate R --benchmarks tiny --temperature nan",
     "evaluate R --benchmarks tiny --limit 0", "evaluate R --benchmarks ,", "status R --watch --every 1e300", "status R --every inf",
     "regrade R --workers -1", "train tiny:student R --limit -1", "probe R --minutes nan", "probe R --problems 0",
     "evaluate tiny:student", "train tiny:student", "generate tiny:teacher", "list R/no", "config --show train.learnin_rate",
     "push R --dataset-repo a/b/c --dry-run", "push R --model-repo a?b --dry-run", "evaluate tiny:no --benchmarks tiny --dry-run",
     "run --config tiny --run-dir R-no --set student.model=-x --dry-run", "run --config tiny --run-dir R-no --set teacher.model={{ --dry-run",
     "run --config tiny --run-dir R-no --set student.model={{ --dry-run", "run --config tiny --run-dir R-no --set grading.workers=1025 --dry-run",
     'run --config tiny --run-dir R-no --set stages={"own":{"module":"m","tasks":1000000000}} --dry-run'],
)  # fmt: skip
def test_a_value_that_is_none(words: str, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = words.replace("R", str(run_dir)).split()
    require_message(call(given), given, capsys.readouterr().err, (2,))


# Empty means something there (none, or all keys), or the command says itself what is missing.
MAY_BE_EMPTY = {
    "sets",
    "tries",
    "show",
    "benchmarks",
    "keep",
    "dataset_repo",
    "model_repo",
    "cont",
    "hf_path_in_repo",
}


@pytest.mark.parametrize("name", [*VERBS, "campaign", "teacher", "student"])
def test_no_option_takes_an_unset_variable_of_a_shell_for_a_value(name: str) -> None:
    """`--run-dir "$DIR"` was the current folder, `--until "$STAGE"` the whole loop."""
    own = {"campaign": campaign_parser, "teacher": teacher_parser, "student": student_parser}
    parser = own[name]() if name in own else parser_of(name)
    for action in parser._actions:
        skipped = action.nargs == 0 or action.choices or action.help == argparse.SUPPRESS
        if skipped or action.dest in MAY_BE_EMPTY or name == "init":
            continue
        if action.option_strings or "dir" in action.dest:
            with pytest.raises((argparse.ArgumentTypeError, ValueError)):
                (action.type or str)("")  # type: ignore[operator]


def test_every_verb_takes_verbosity_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["data", "list", "-q"], ["data", "-q", "list"], ["list", ".", "-q"]):
        assert call(words) == 0, capsys.readouterr().err


def test_a_benchmark_that_is_none_leaves_no_trace_in_the_run(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name, once recorded, would stop every later start."""
    before = Layout(run_dir).config.read_bytes()
    assert call(["evaluate", str(run_dir), "--benchmarks", "no-such"]) == 2
    assert "no-such" in capsys.readouterr().err
    assert Layout(run_dir).config.read_bytes() == before


def test_a_dry_run_of_an_evaluation_shows_a_problem_of_its_benchmark(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["evaluate", "tiny:student", "--benchmarks", "tiny", "--limit", "3", "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "of a problem of the first benchmark" in said and "tokens under the loss" not in said


def test_a_dry_run_tells_what_stops_a_prompt_of_the_first_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "problem.txt").write_text(
        "{{ problem }}{% if problem|length > 9 %}{{ problem.no() }}{% endif %}"
    )
    words = [
        "generate",
        "tiny:teacher",
        "tiny:train",
        "--limit",
        "20",
        "--set",
        f"teacher.prompt={tmp_path}",
        "--dry-run",
    ]
    assert call(words) == 2
    assert "problem.txt: cannot be rendered" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["[/old]", "[red]x", ":100:", "a b'c", "-x", "\u05d0 \u4e2d"])
def test_a_run_in_a_folder_of_any_name_is_shown_by_it(
    name: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What rich would read as its markup was swallowed, or ended the command as a fault of ours."""
    monkeypatch.chdir(run_dir.parent)
    place = run_dir.parent / name
    place.parent.mkdir(exist_ok=True)
    run_dir.rename(place)
    for words, said in (
        (["report", str(place)], f"{place.resolve()}/report/index.html"), (["list", str(place.parent)], place.name), (["list", str(place)], place.name),
        (["status", str(place)], ""), (["cost", str(place)], ""), (["show", str(place)], ""), (["logs", str(place)], ""),
        (["regrade", str(place)], ""), (["prune", str(place), "--keep", "all"], ""), (["cancel", str(place)], ""),
        (["export", str(place), "--format", "trl"], f"{place.resolve()}/exports"), (["config", str(place), "--show", "name"], ""),
        (["push", str(place), "--dry-run", "--dataset-repo", "a/b"], ""), (["run", "--run-dir", str(place), "--dry-run"], ""),
    ):  # fmt: skip
        assert call(words) == 0, (words, capsys.readouterr().err)
        assert said in capsys.readouterr().out, words


def test_a_folder_in_the_place_of_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").mkdir()
    assert call(["config", str(tmp_path / "a.yaml")]) == 2
    assert "is a folder" in (said := capsys.readouterr().err) and "did you mean" not in said


def test_the_current_folder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (["status"], ["list"], ["run", "--config", "tiny", "--dry-run"]):
        code = call(words)
        require_message(code, words, said := capsys.readouterr().err, (2,))
        assert "folder" in said and "output" not in said, said


@pytest.mark.parametrize(
    "key",
    ["teacher.model", "student.model", "student.prompt", "data.train.path", "data.rationales.path", "data.rationales.run",
     "evaluate.benchmarks", "plugins", "hub.token_file", "cluster.profile"],
)  # fmt: skip
def test_a_home_that_there_is_not(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.yaml").write_text("teacher: {model: 'tiny:teacher'}\nstudent: {model: 'tiny:student'}\n")
    place = json.dumps(
        ["~no-such-user/x.yaml"] if key in ("evaluate.benchmarks", "plugins") else "~no-such-user/x.yaml"
    )
    sets = [f"{key}={place}", *(["cluster.kind=slurm"] if key.startswith("cluster") else [])]
    sets += ["hub.push_at_end=true", "hub.model_repo=a/b"] if key.startswith("hub") else []
    sets += ["data.train.tiny=train", "data.train.sample=60"] if not key.startswith("data.train") else []
    words = ["run", "--config", str(tmp_path / "my.yaml"), "--run-dir", str(tmp_path / "run"), "--dry-run"]
    words += [word for item in sets for word in ("--set", item)]
    require_message(call(words), words, said := capsys.readouterr().err, (2,))
    assert "no-such-user" in said, said
