"""No verb prints a traceback: wrong arguments, wrong configurations and damaged runs end in a message and exit code 2 or 3."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undo_hpc.cli import VERBS, main
from undo_hpc.cli.errors import guard
from undo_hpc.config.load import load_config
from undo_hpc.errors import ConfigError
from undo_hpc.pipeline.layout import Layout

RUN_VERBS = {
    "status": [],
    "logs": ["merge"],
    "report": [],
    "cost": [],
    "regrade": [],
    "push": ["--dry-run", "--dataset-repo", "me/a", "--model-repo", "me/b"],
    "pause": [],
    "cancel": [],
}  # fmt: skip


def call(words: list[str]) -> int:
    """The exit code of a command line, also where argparse ends it."""
    try:
        return main(words)
    except SystemExit as ended:
        return int(ended.code or 0)


def lines_for(run_dir: Path) -> list[list[str]]:
    lines = [[verb, str(run_dir), *more] for verb, more in RUN_VERBS.items()]
    return [*lines, ["run", "--run-dir", str(run_dir), "--dry-run"], ["list", str(run_dir.parent)]]


def require_message(code: int, words: list[str], err: str, allowed: tuple[int, ...] = (2, 3)) -> None:
    assert code in allowed, (words, code, err)
    assert "Traceback" not in err and "error: unexpected" not in err, (words, err)
    assert code == 0 or err.strip(), words


@pytest.mark.parametrize("kind", ["missing", "file", "empty folder", "zero byte", "long"])
def test_a_run_that_is_none(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = {"zero byte": Path("a\0b"), "long": tmp_path / ("x" * 300)}.get(kind, tmp_path / "run")
    if kind == "file":
        path.write_text("x")
    elif kind == "empty folder":
        path.mkdir()
    for verb, more in RUN_VERBS.items():
        words = [verb, str(path), *more]
        require_message(call(words), words, capsys.readouterr().err)
    words = ["run", "--run-dir", str(path)]
    require_message(call(words), words, capsys.readouterr().err)


@pytest.mark.parametrize("verb", [*VERBS, ""])
def test_unknown_flags(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([verb, "--no-such-flag"], [verb, "--no-such-flag=3", "x", "y", "z", "w"]):
        words = [word for word in words if word]
        assert call(words) == 2
        assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--config", "tiny", "--config", "tiny"],
        ["run", "--config", "tiny", "--run-dir", "a", "--run-dir", "b"],
        ["run", "--config", ""],
        ["run", "--config", "tiny", "--run-dir", ""],
        ["status", ""],
        ["cancel", ""],
    ],
)
def test_an_argument_is_given_once_and_not_empty(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(words) == 2
    assert re.search("given twice|it is empty", capsys.readouterr().err)


def test_a_folder_named_like_a_preset_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert load_config("tiny").name == "tiny"


@pytest.mark.parametrize("kind", ["below a file", "a link to nowhere", "a link to itself"])
def test_a_place_that_can_hold_no_run(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run"
    if kind == "below a file":
        path.write_text("x")
        path /= "below"
    else:
        path.symlink_to("nowhere" if kind == "a link to nowhere" else "run")
    for more in ([], ["--dry-run"]):
        words = ["run", "--config", "tiny", "--run-dir", str(path), *more]
        require_message(call(words), words, capsys.readouterr().err, (2,))


def test_a_dry_run_says_where_a_run_stands(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dry = ["run", "--run-dir", str(run_dir), "--dry-run"]
    assert call(dry) == 0
    assert "complete; a launch plans iteration 1" in " ".join(capsys.readouterr().out.split())
    Layout(run_dir).iteration(0).stage_manifest("merge").unlink()
    assert call(dry) == 0
    assert "to do" in capsys.readouterr().out


def odd(value: Any, to: Any) -> Any:
    """The same keys with other values."""
    if isinstance(value, dict):
        return {k: v if k == "schema_version" else odd(v, to) for k, v in value.items()}
    return to


def rewritten(to: Any) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        return b"\n".join(json.dumps(odd(json.loads(line), to)).encode() for line in _documents(data))

    return change


def _documents(data: bytes) -> list[bytes]:
    try:
        json.loads(data)
    except ValueError:
        return data.splitlines()
    return [data]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "null": lambda data: b"null",
    "a list": lambda data: b"[]",
    "a number": lambda data: b"3",
    "no keys": lambda data: b"{}",
    "NaN": lambda data: b'{"a": NaN}',
    "a large number": lambda data: b'{"schema_version": 99999999999999999999999}',
    "deep": lambda data: b"[" * 3000 + b"]" * 3000,
    "latin-1": lambda data: '{"ä": 1}'.encode("latin-1"),
    "other types": rewritten(["odd"]),
    "nulls": rewritten(None),
}
FILES: dict[str, Callable[[Layout], Path]] = {
    "config": lambda at: at.config,
    "environment": lambda at: at.environment,
    "plan": lambda at: at.iteration(0).plan,
    "metrics": lambda at: at.iteration(0).metrics,
    "events": lambda at: at.events,
    "prepared": lambda at: at.prepared,
    "merge manifest": lambda at: at.iteration(0).stage_manifest("merge"),
    "feedback": lambda at: at.iteration(0).feedback,
}


SOME = ("half", "a list", "no keys", "other types", "nulls")


@pytest.mark.parametrize(
    ("file", "damage"),
    [*(("plan", d) for d in DAMAGE), *((f, d) for f in FILES if f != "plan" for d in SOME)],
)
def test_a_damaged_file_of_a_run(
    file: str, damage: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = FILES[file](Layout(run_dir))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    for words in lines_for(run_dir):
        if words[0] != "regrade" or file in (
            "prepared",
            "plan",
        ):  # it starts processes, and reads few of these
            require_message(call(words), words, capsys.readouterr().err, (0, 2, 3))
    if file == "config":  # nothing can be known of the run then
        words = ["status", str(run_dir)]
        require_message(call(words), words, capsys.readouterr().err)


@pytest.mark.parametrize("file", FILES)
def test_a_folder_in_the_place_of_a_file(
    file: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = FILES[file](Layout(run_dir))
    path.unlink()
    path.mkdir()
    for words in (line for line in lines_for(run_dir) if line[0] != "regrade"):
        require_message(call(words), words, capsys.readouterr().err, (0, 2, 3))


BOMB = "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8))
YAML = {
    "a date": ("teacher: {chat_template_kwargs: {day: !!timestamp x}}", "cannot be read"),
    "an alias of nothing": ("name: *x", "undefined alias"),
    "an alias inside of itself": ("teacher: &t {chat_template_kwargs: {a: *t}}", "inside of what it names"),
    "an alias bomb": (f"a: &a [x, x, x, x, x, x, x, x]\n{BOMB}", "more than 100,000 values"),
    "deep lists": ("name: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    "deep mappings": ("teacher: {chat_template_kwargs: " + "{a: " * 90 + "1" + "}" * 91, "50 levels"),
    "infinity": ("train: {learning_rate: .inf}", "finite number"),
    "NaN in a free section": ("teacher: {chat_template_kwargs: {x: .nan}}", "finite number"),
    "over 64 bits": ("seed: 123456789012345678901234567890", "more than 64 bits"),
    "over 64 bits in a free section": ("generate: {engine: {vllm: {extra: {x: 99999999999999999999}}}}", "more than 64 bits"),
    "thousands of digits": (f"seed: {'9' * 5000}", "a number of 5,000 digits"),
    "a zero byte": ('teacher: {model: "a\\0b"}', "zero byte"),
    "a zero byte in a list": ('evaluate: {benchmarks: ["a\\0.yaml"]}', "zero byte"),
    "half a character": ('name: "\\ud800"', "lone surrogate"),
    "bytes": ("teacher: {chat_template_kwargs: {x: !!binary aGVsbG8=}}", "is bytes"),
    "a set": ("teacher: {chat_template_kwargs: {x: !!set {a}}}", "is set"),
    "a tag of another type": ("seed: !!int x", "cannot be read"),
    "a tag of Python": ('name: !!python/object/apply:os.system ["true"]', "constructor"),
    "two documents": ("name: a\n---\nname: b", "single document"),
    "no end of a text": ('name: "x', "in line 1, column 7"),
    "latin-1": ("name: \xe4", "is not UTF-8"),
    "a long path": (f"student: {{prompt: /{'x' * 5000}}}", "x" * 5000),
}  # fmt: skip


@pytest.mark.parametrize("kind", YAML)
def test_a_wrong_configuration(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, word = YAML[kind]
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="latin-1" if kind == "latin-1" else "utf-8")
    models = ["--set", "student.model=tiny:student"]
    for words in (
        ["run", "--config", str(path), "--run-dir", str(tmp_path / "run"), *models],
        ["run", "--config", str(path), "--run-dir", str(tmp_path / "run"), "--dry-run", *models],
    ):
        code = call(words)
        err = capsys.readouterr().err
        require_message(code, words, err, (2,))
        assert word in err, err
    assert not (tmp_path / "run").exists()


def in_a_process(
    words: list[str], *, stdout: Any = subprocess.PIPE, shell: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "undo_hpc.cli", *words]
    if shell:
        command = ["bash", "-c", f'"$@" {shell}', "-", *command]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **env}
    environment.pop("PYTHONUNBUFFERED", None)  # nothing would be left to be written at the end of the process
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, errors="replace", env=environment, timeout=120, check=False
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_of_another_encoding(played: Path, encoding: str) -> None:
    for words in (["status", str(played)], ["cost", str(played)], ["list", str(played.parent)]):
        done = in_a_process(words, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, ""), words
    done = in_a_process(["status", "/nowhere/\u4e2d"], PYTHONIOENCODING=encoding)
    assert done.returncode == 2 and "not a run directory" in done.stderr


def test_a_closed_or_full_output(played: Path) -> None:
    done = in_a_process(["status", str(played)], shell=">&-")
    assert (done.returncode, done.stderr) == (0, "")
    done = in_a_process(["status", str(played)], shell="> /dev/full")
    assert done.returncode == 3 and "No space left" in done.stderr and "Traceback" not in done.stderr
    done = in_a_process(["--version"], shell="> /dev/full")
    assert done.returncode == 3 and "No space left" in done.stderr and "Traceback" not in done.stderr
    assert in_a_process(["status", "/nowhere"], shell="2> /dev/full").returncode == 2
    done = in_a_process(["data", "list"], shell="| true; exit ${PIPESTATUS[0]}")
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_an_unexpected_error_leaves_a_line_and_its_traceback_in_the_logs_of_the_run(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise LookupError("what nobody\nforesaw")

    assert guard(fail, run_dir=run_dir) == 1
    said = capsys.readouterr().err
    (file,) = Layout(run_dir).logs.iterdir()
    assert len(said.splitlines()) == 1 and str(file) in said and "what nobody foresaw" in said
    assert "Traceback" in file.read_text() and "LookupError" in file.read_text()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert guard(fail, run_dir=tmp_path / "no run") == 1
    [file] = tmp_path.glob("undo-hpc-error-*.txt")
    assert file.stat().st_mode & 0o777 == 0o600, "the temporary folder is for everybody"


def test_a_traceback_goes_into_a_new_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the temporary folder another user may have put a link under the name, had it been one that can be guessed."""

    def fail() -> int:
        raise LookupError

    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("undo_hpc.system.guard.secrets.token_hex", lambda count: "0")
    monkeypatch.setattr("undo_hpc.system.guard.time.strftime", lambda form: "now")
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f"undo-hpc-error-now-{os.getpid()}-0.txt").symlink_to(tmp_path / "mine")
    assert guard(fail) == 1 and (tmp_path / "mine").read_text() == "mine"


def test_a_guard_passes_codes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def stop() -> int:
        raise KeyboardInterrupt

    def refuse() -> int:
        raise ConfigError("no", hint="yes")

    assert guard(lambda: 3) == 3 and guard(stop, interrupted="stopped") == 130 and guard(refuse) == 2
    assert capsys.readouterr().err == "stopped\nerror: no\n  -> yes\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a run to another user")
def test_another_users_run_is_looked_at_and_no_more(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its configuration says which token is sent to whom, and whose jobs are ended; its links lead where its owner wants."""
    monkeypatch.delenv("UNDO_TRUST", raising=False)
    (tmp_path / "mine").mkdir()
    for path in [run_dir, *run_dir.rglob("*")]:
        os.chown(path, 54321, 54321, follow_symlinks=False)
    for words in (["report", str(run_dir)], ["export", str(run_dir), "--format", "trl"]):
        # no link stands there, but its owner could put one there between a look and what is written
        assert call(words) == 2 and "belongs to another user, 54321" in capsys.readouterr().err, words
    (run_dir / "report").symlink_to(tmp_path / "mine")
    os.chown(run_dir / "report", 54321, 54321, follow_symlinks=False)
    before = {path: path.lstat().st_mtime_ns for path in [run_dir, *run_dir.rglob("*")]}
    root, names = str(run_dir), ["--dataset-repo", "me/a"]
    for words in (
        ["push", root, *names], ["prune", root, "--keep", "all"], ["pause", root], ["cancel", root], ["regrade", root],
        ["report", root], ["export", root, "--format", "trl"], ["run", "--run-dir", root], ["fork", root, str(tmp_path / "x")],
        ["run", "--run-dir", root, "--dry-run"], ["evaluate", root, "--benchmarks", "x.jsonl", "--dry-run"], ["probe", root],
    ):  # fmt: skip
        assert call(words) == 2 and "another user, 54321" in capsys.readouterr().err, words
    for words in (["status", root], ["show", root], ["cost", root], ["push", root, "--dry-run", *names]):
        assert call(words) == 0, words
    assert {path: path.lstat().st_mtime_ns for path in [run_dir, *run_dir.rglob("*")]} == before
    assert not any((tmp_path / "mine").iterdir())


def test_a_search_for_the_cause_ends_in_no_other_error(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise MemoryError

    def wrong() -> int:
        raise RuntimeError("the first")

    monkeypatch.setattr("undo_hpc.pipeline.damage.find_damage", full)
    assert guard(full, run_dir=run_dir) == 1 and "not enough memory" in capsys.readouterr().err
    assert guard(wrong, run_dir=run_dir) == 1 and "RuntimeError: the first" in capsys.readouterr().err
