"""The command line as a whole: fast, helpful, and without tracebacks."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc.cli import VERBS, main
from undo_hpc.cli.run_iteration import build_parser, read_config
from undo_hpc.observe.logs import follow
from undo_hpc.pipeline.run import Run, create_or_open
from undo_hpc.storage.atomic import write_text
from undo_hpc.storage.lease import Lease
from undo_hpc.system import invocation
from undo_hpc.system.guard import of_system

HEAVY = (
    "torch",
    "transformers",
    "deepspeed",
    "vllm",
    "datasets",
    "sympy",
    "math_verify",
    "pyarrow",
    "numpy",
    "huggingface_hub",
    "matplotlib",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return RunBuilder(
        tmp_path_factory.mktemp("cli") / "checkpoints" / "mine", problems=20, sets=["display.report=false"]
    ).play(1)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    out = capsys.readouterr().out
    assert ended.value.code == 0 and "example" in out and f"undo-hpc {verb}" in out


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb: str) -> None:
    code = f"""
import sys
from undo_hpc.cli import main
try:
    main({[verb, "--help"] if verb else ["--help"]!r})
except SystemExit:
    pass
print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr.strip() == "[]"


def test_status_logs_and_list_import_nothing_heavy(run: Run) -> None:
    root = str(run.layout.root)
    code = f"""
import sys
from undo_hpc.cli import main
for words in (["status", {root!r}], ["list", {str(run.layout.root.parent)!r}], ["cost", {root!r}]):
    assert main(words) == 0, words
print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr.strip() == "[]"


def test_no_verb_a_wrong_verb_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "status" in capsys.readouterr().out
    assert main(["stats"]) == 2
    assert "did you mean 'status'?" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("undo-hpc ")


def test_what_the_file_system_says_is_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/runs/a-colleagues/config.resolved.json")

    monkeypatch.setattr("undo_hpc.pipeline.run.open_run", refuse)
    assert main(["cancel", "/runs/a-colleagues"]) == 3
    said = capsys.readouterr().err
    assert "/runs/a-colleagues/config.resolved.json: Permission denied" in said and "chmod" in said
    told = of_system(IsADirectoryError(errno.EISDIR, "Is a directory", "x"))
    assert told.exit_code == 2 and "x: Is a directory" in told.message


def test_a_profile_may_lie_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "cluster #1: ours" / "p.yaml"
    arguments = build_parser().parse_args(["--profile", str(path)])
    assert read_config(arguments).cluster.profile == str(path)


def test_a_relaunch_needs_no_profile_file(tmp_path: Path) -> None:
    """The run keeps a copy; a file that is named and is not there is still an error."""
    file, root = tmp_path / "p.yaml", tmp_path / "run"
    file.write_text("cluster: x\n")
    config = tmp_path / "mine.yaml"
    config.write_text("name: mine\n")
    words = ["--config", str(config), "--run-dir", str(root)]
    first = read_config(build_parser().parse_args([*words, "--profile", str(file)]))
    run = create_or_open(first, root, command=["test"])
    run.layout.profile.write_text('{"cluster": "x"}')
    file.unlink()
    for again in (["--run-dir", str(root)], words):
        assert read_config(build_parser().parse_args(again)).cluster.profile == str(run.layout.profile)
    named = read_config(build_parser().parse_args([*words, "--profile", str(file)]))
    assert named.cluster.profile == str(file)
    file.write_text("cluster: y\n")
    assert read_config(build_parser().parse_args(words)).cluster.profile == str(file)


def test_a_run_on_a_cluster_stays_there_where_nothing_else_is_said(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("name: mine\n")
    words = ["--config", str(config), "--run-dir", str(tmp_path / "run")]
    create_or_open(
        read_config(build_parser().parse_args([*words, "--profile", "p.yaml"])),
        tmp_path / "run",
        command=["test"],
    )
    again = read_config(build_parser().parse_args(words)).cluster
    assert (again.kind, Path(again.profile).name) == ("slurm", "p.yaml")
    assert read_config(build_parser().parse_args([*words, "--cluster", "local"])).cluster.kind == "local"


def test_the_installed_command_is_ours() -> None:
    command = Path(sys.executable).with_name("undo-hpc")
    if not command.exists():
        pytest.skip("the package is not installed in this environment")
    done = subprocess.run(
        [str(command), "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith("undo-hpc ")


def test_run_is_the_launcher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", "tiny", "--run-dir", str(tmp_path / "new"), "--dry-run"]) == 0
    assert "generate" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_a_dry_run_reads_local_data_and_the_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"question": f"What is {k} and {k}?", "answer": f"#### {2 * k}", "level": k % 3} for k in range(60)
    ] + [{"question": "?", "answer": ""}] * 2
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config, profile = tmp_path / "my.yaml", tmp_path / "cluster.yaml"
    text = f"""
name: mine
data: {{train: {{path: {tmp_path}/problems.jsonl, fields: {{problem: question, answer: answer}}}}}}
teacher: {{model: "tiny:teacher"}}
student: {{model: "tiny:student"}}
"""
    config.write_text(text)
    profile.write_text(
        "defaults: {partition: wide, minutes: 77}\nstages: {train: {gpus_per_node: 4, tasks_per_node: 4}}\n"
    )
    words = ["run", "--config", str(config), "--run-dir", str(tmp_path / "run"), "--dry-run"]
    assert main([*words, "--profile", str(profile)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "writes for 48 problems" in told
        and "partition wide" in told
        and "minutes 77" in told
        and "gpus per node 4" in told
    )
    assert "60 of 62 rows; problem from 'question'" in told and "the first: What is 0 and 0? -> 0" in told
    assert "not used: 2 rows, e.g. problems.jsonl line 61: no problem: '?'" in told
    assert main([*words, "--set", "data.train.where={level: [0, 1]}"]) == 0
    assert "not used: 22 rows that do not meet `where`" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit):
        main(["run", str(config)])
    assert f"did you mean --config {config}?" in capsys.readouterr().err
    config.write_text(text.replace("problem: question", "problem: quest"))
    assert main(words) == 2
    assert "did you mean 'question'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_missing_engine_is_told_before_the_data_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undo_hpc.control.checks.settings.find_spec", lambda name: None)
    assert (
        main(
            [
                "run",
                "--config",
                "tiny",
                "--run-dir",
                str(tmp_path / "run"),
                "--set",
                "generate.engine.name=vllm",
            ]
        )
        == 2
    )
    assert "--set generate.engine.name=transformers" in capsys.readouterr().err
    assert not (tmp_path / "run" / "splits").exists()


def test_logs_without_a_stage_lists_them(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    log = run.layout.iteration(0).log("merge", 0)
    write_text(log, "merged\n")
    assert main(["logs", str(run.layout.root)]) == 0
    assert str(log) in capsys.readouterr().out.splitlines()


def test_commands_are_shown_as_they_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert invocation.program("python") == "python"
    assert "launchers" not in invocation.launcher_hint()  # no checkout here: the verb
    (tmp_path / "launchers").mkdir()
    (tmp_path / "launchers" / "run_iteration.py").touch()
    assert invocation.launcher_hint("--run-dir a") == "python launchers/run_iteration.py --run-dir a"
    monkeypatch.setenv("PATH", "/nowhere")
    assert invocation.program("python").endswith("/python")
    assert (
        invocation.display_path(tmp_path / "a b") == "'a b'" and invocation.display_path(Path("/a")) == "/a"
    )


def test_a_folder_that_is_no_run_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status", str(tmp_path)], ["report", str(tmp_path)], ["logs", str(tmp_path), "train"], ["regrade", str(tmp_path)], ["push", str(tmp_path)],
                  ["pause", str(tmp_path)], ["cancel", str(tmp_path)], ["cost", str(tmp_path)]):  # fmt: skip
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "not a run directory" in said and "Traceback" not in said


def test_the_latest_run_is_meant_where_none_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(run.layout.root.parent.parent)
    assert main(["status"]) == 0
    assert "checkpoints/mine" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 2
    assert "undo-hpc run" in capsys.readouterr().err


def test_list_shows_runs_and_those_that_cannot_be_read(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    broken = run.layout.root.parent / "broken[red]"
    broken.mkdir(exist_ok=True)
    (broken / "config.resolved.json").write_text('{"schema_version": 0}')
    for path in (run.layout.events, *run.layout.root.glob("iter_*")):
        os.utime(path, (1e9, 1e9))
    os.utime(
        run.layout.events, (1.9e9, 1.9e9)
    )  # the last event, not the day of the configuration, is when a run changed
    assert main(["list", str(run.layout.root.parent)]) == 0
    out = capsys.readouterr().out
    assert "mine" in out and "2030-03-" in out and "cannot be" in out
    assert f"runs in {run.layout.root.parent}" in out and "\nbroken[red]" in out, "a name is no markup"
    assert main(["list", str(broken / "nothing")]) == 2 and "no folder" in capsys.readouterr().err


def test_a_page_over_the_runs_links_their_reports(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a run").symlink_to(finished)
    (tmp_path / "b<b>").mkdir()
    (tmp_path / "b<b>" / "config.resolved.json").write_text("{}")
    assert main(["list", str(tmp_path), "--html"]) == 0
    assert str(tmp_path / "index.html") in capsys.readouterr().out
    text = (tmp_path / "index.html").read_text()
    assert "b&lt;b&gt;" in text and "cannot be read" in text and "ended: all 3 iterations are done" in text
    (link,) = re.findall(r'href="([^"]+index.html)"', text)
    assert (tmp_path / unquote(link)).resolve() == finished / "report" / "index.html"


def test_logs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(run.layout.root)
    assert main(["logs", root, "train"]) == 2
    assert "printed nothing yet" in capsys.readouterr().err
    write_text(run.layout.iteration(0).log("train", 0), "step 1\nstep 2\n")
    assert main(["logs", root, "train", "--follow"]) == 0, "a task that has ended is not waited for"
    assert capsys.readouterr().out == "step 1\nstep 2\n"
    for words, said in (
        (["treno"], "no stage 'treno'"),
        (["train", "7"], "has no task 7"),
        (["train", "--iteration", "9"], "has not begun"),
    ):
        assert main(["logs", root, *words]) == 2
        assert said in capsys.readouterr().err


def test_following_prints_what_is_added_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("first ")
    answers = iter([True, True, False])

    def going_on() -> bool:
        with path.open("a") as file:
            file.write("more ")
        return next(answers)

    assert "".join(follow(path, going_on=going_on, every_s=0.01)) == "first more more more "


def test_pause_and_cancel_of_a_local_run_tell_how(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(run.layout.root)
    assert main(["pause", root]) == 0
    assert "nothing runs" in capsys.readouterr().out
    with Lease(run.layout.lease, "the run"):
        assert main(["cancel", root]) == 3
        assert "kill -TERM" in capsys.readouterr().out


def test_data_list_and_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    assert "gsm8k" in capsys.readouterr().out
    source = tmp_path / "problems.jsonl"
    source.write_text('{"question": "1 + 1?", "answer": "1 + 1 = 2\\n#### 2"}\n')
    assert main(["data", "export", "gsm8k", str(tmp_path / "out"), "--path", str(source)]) == 0
    import pyarrow.parquet as pq

    (file,) = (tmp_path / "out").rglob("*.parquet")
    assert pq.read_table(file).to_pylist()[0]["solution"].endswith("\\boxed{2}")
    assert main(["data", "export", "gsm9k", str(tmp_path / "other")]) == 2
    assert "gsm8k" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "meant"), [("import", "data.rationales.path"), ("stop", "undo-hpc pause"), ("statsu", "status")]
)
def test_a_word_that_is_no_verb_names_what_is_meant(
    word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word, "x"]) == 2
    assert meant in capsys.readouterr().err
