"""Checkers beside the built-in one: exact text, programs in a sandbox, a command."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from undo_hpc.checkers.code import CodeChecker, last_program
from undo_hpc.checkers.command import CommandChecker
from undo_hpc.checkers.exact import ExactText
from undo_hpc.checkers.sandbox import run_python
from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import ConfigError, EngineError
from undo_hpc.grading import GradeItem
from undo_hpc.stages.checker import checker_of


def item(prediction: str, gold: str) -> GradeItem:
    return GradeItem(prediction, gold, "text")


def test_exact_text() -> None:
    items = [
        item("so \\boxed{New  York}", "New York"),
        item("I think\nParis", "Paris"),
        item("paris", "Paris"),
        item(" ", "x"),
    ]
    found = list(ExactText().grade_many(items))
    assert [grade.verdict for grade in found] == ["correct", "correct", "wrong", "no_answer"]
    assert [grade.boxed for grade in found] == [True, False, False, False]


def test_the_last_block_of_python_is_the_program() -> None:
    text = "```python\na = 1\n```\nthen\n```py\nb = 2\n```\n```bash\nls\n```"
    assert last_program(text) == "b = 2" and last_program("```\nc = 3\n```") == "c = 3"
    shown = "```python\ndef f():\n    return 1\n```\nUse it so:\n```python\nprint(f())\n```"
    assert last_program(shown) == "def f():\n    return 1"
    assert (
        last_program("1. first\n   ```python\n   def f():\n       return 1\n   ```")
        == "def f():\n    return 1"
    )
    assert last_program("no block") is None and last_program("```json\n{}\n```") is None
    start = time.process_time()
    assert last_program("`" * 200_000) is None and last_program("```" + "a" * 200_000) is None
    assert time.process_time() - start < 3  # no deadline stands over the search


def test_programs_are_run_against_the_tests() -> None:
    tests = "assert double(4) == 8"
    answers = {
        "```python\ndef double(x):\n    return 2 * x\n```": "correct",
        "```python\ndef double(x):\n    return x\n```": "wrong",
        "```python\nimport os\nos._exit(0)\n```": "wrong",  # ends before the tests
        "```python\nraise SystemExit(0)\n```": "wrong",
        "```python\ndef double(x):\n    while True: pass\n```": "wrong",
        "the answer is 8": "no_answer",
    }
    checker = CodeChecker(deadline_s=10, memory_mb=1024, workers=2)  # the one that never ends waits for it
    found = list(checker.grade_many(item(answer, tests) for answer in answers))
    assert [grade.verdict for grade in found] == list(answers.values())
    assert found[4].extra["why"] == "time limit"


def test_the_sandbox_takes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    program = f"""
import os
print("HF_TOKEN" in os.environ)
open("here.txt", "w").write("x")
try:
    open({str(tmp_path / "there.txt")!r}, "w").write("x")
except OSError:
    print("no file elsewhere")
import socket
try:
    socket.create_connection(("127.0.0.1", 9), 1)
except OSError as error:
    print(error.errno)
"""
    done = run_python(program, seconds=60, megabytes=512)
    lines = done.output.splitlines()
    assert done.code == 0 and lines[0] == "False", done.output
    assert ("no file elsewhere" in lines) is ("files" in done.taken) is not (tmp_path / "there.txt").exists()
    if "network" in done.taken:
        assert lines[-1] in ("13", "101"), "no socket is made, or the network is unreachable"
    assert "MemoryError" in run_python("x = bytearray(1 << 30)", seconds=60, megabytes=256).output
    assert run_python("while True: pass", seconds=1, megabytes=256).too_long


def test_a_program_changes_ends_and_asks_nothing_of_its_user(tmp_path: Path) -> None:
    """Shortening a file, its mode, signals, limits of other processes and sockets of files: landlock closes none of them."""
    ours, address = tmp_path / "ours", str(tmp_path / "socket")
    ours.write_text("words")
    ours.chmod(0o600)
    with socket.socket(socket.AF_UNIX) as bus, subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:  # fmt: skip
        bus.bind(address)
        bus.listen()
        program = f"""
import asyncio, ctypes, os, platform, resource, socket
def reach():
    socket.socket(socket.AF_UNIX).connect({address!r})
def call(here, on_arm, *given):
    if ctypes.CDLL(None).syscall(on_arm if platform.machine() == "aarch64" else here, *given) < 0:
        raise OSError("refused")
def reach_by_a_pair():
    socket.socketpair(type=socket.SOCK_DGRAM)[0].connect({address!r})
for name, act in {{
    "shortened": lambda: os.truncate({str(ours)!r}, 0),
    "mode": lambda: os.chmod({str(ours)!r}, 0o777),
    "time": lambda: os.utime({str(ours)!r}),
    "ended": lambda: os.kill({other.pid}, 9),
    "limited": lambda: resource.prlimit({other.pid}, resource.RLIMIT_CPU, (0, 0)),
    "reached": reach,
    "paired": reach_by_a_pair,
    "keys": lambda: call(250, 219, 0, -3, 0),  # keyctl(2), which could empty the ring of the session, too
    "held": lambda: call(29, 194, 0, ctypes.c_size_t(1 << 20), 0o1600),  # shmget(2): no limit counts it
    "unnamed": lambda: os.memfd_create("memory"),
    "secret": lambda: call(447, 447, 0),  # memfd_secret(2): where kernels have it
    "queued": lambda: call(425, 425, 8, ctypes.create_string_buffer(120)),  # io_uring_setup(2)
}}.items():
    try:
        act()
        print(name)
    except OSError:
        pass
open(os.devnull, "w").write("goes nowhere")
asyncio.run(asyncio.sleep(0))
print("end")
"""
        done = run_python(program, seconds=60, megabytes=512)
        assert other.poll() is None or "processes" not in done.taken
        other.kill()
    allowed = {
        "files": {"shortened", "mode", "time"}, "processes": {"ended", "limited"},
        "network": {"reached", "paired", "keys", "held", "unnamed", "secret", "queued"},
    }  # fmt: skip
    assert done.code == 0 and done.output.endswith("end\n"), done.output
    assert not set(done.output.split()) & set().union(*(allowed[each] for each in done.taken)), done.output
    if "files" in done.taken:
        assert ours.read_text() == "words" and ours.stat().st_mode & 0o777 == 0o600


def test_a_program_fills_no_disk_and_has_no_rights_in_its_world(tmp_path: Path) -> None:
    program = """
import os
print("rights", [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapPrm"))])
try:
    for number in range(8):
        with open(f"{number}", "wb") as file:
            file.write(bytes(15 << 20))
except OSError as error:
    print(error.strerror)
"""
    done = run_python(program, seconds=60, megabytes=512)
    if "files" not in done.taken:
        pytest.skip("no user namespaces here")
    assert done.output.splitlines() == [f"rights {['0' * 16] * 2}", "No space left on device"]


def test_a_program_has_no_hold_on_the_terminals_of_its_user() -> None:
    """Settings of a terminal ask for no right to write: with its output held, whatever writes there next waited for ever."""
    ours, terminal = pty.openpty()
    try:
        done = run_python(
            f"import os, termios\ntermios.tcflow(os.open({os.ttyname(terminal)!r}, os.O_RDONLY), termios.TCOOFF)",
            seconds=60,
            megabytes=256,
        )
        if "files" not in done.taken:
            pytest.skip("no user namespaces here")
        assert done.code == 1 and "FileNotFoundError" in done.output, done
        os.set_blocking(terminal, False)
        assert os.write(terminal, b"goes on") == 7
    finally:
        os.close(ours)
        os.close(terminal)


def test_a_signal_to_all_processes_of_a_job_ends_no_program() -> None:
    """SLURM asks a task to save by one: a program that ended by it would be graded as wrong."""
    program = """
import os, signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    os.kill(os.getpid(), number)
print("goes on")
"""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    done = run_python(program, seconds=60, megabytes=256)
    assert done.code == 0 and done.output == "goes on\n", done
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.parametrize(
    "program", ["import os\nos.setsid()\nwhile True: pass", "import os\nos.kill(os.getpid(), 11)"]
)
def test_how_a_program_ended_comes_through(program: str) -> None:
    done = run_python(program, seconds=1, megabytes=256)
    assert done.code < 0 and done.too_long is ("while" in program), done


@pytest.mark.parametrize(
    "planted",
    ["os.mkfifo(name)", "os.symlink('/dev/zero', name)", "os.symlink(secret, name)", "os.mkdir(name)"],
)
def test_what_a_program_puts_in_place_of_its_output_is_not_read(planted: str, tmp_path: Path) -> None:
    """A pipe would have held the checker for ever, a device filled its memory, and a link shown another file."""
    (tmp_path / "secret").write_text("the words of another file")
    name = "name = 'output.txt'\nif os.path.exists(name):\n    os.unlink(name)"  # not seen where the folder is in memory
    program = (
        f"import os\nsecret = {str(tmp_path / 'secret')!r}\nprint('said', flush=True)\n{name}\n{planted}"
    )
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.append(run_python(program, seconds=60, megabytes=512).output), daemon=True
    )
    thread.start()
    thread.join(120)
    assert found == ["said\n"]


def test_no_folder_of_a_program_stays_however_deep_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing it level by level had ended the task, and each start of it after that."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    deep = "for _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')"
    closed = "os.chdir(os.environ['HOME'])\nos.makedirs('a/b')\nos.chmod('a/b', 0)\nos.chmod('a', 0)\nos.chmod('.', 0)"
    done = run_python(f"import os\n{deep}\n{closed}\nprint('made')", seconds=60, megabytes=512)
    assert done.output == "made\n" and not list(tmp_path.iterdir())


def test_a_sandbox_that_cannot_start_gives_no_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "inside.py"
    broken.write_text("raise SystemExit('no memory for it')")
    monkeypatch.setattr("undo_hpc.checkers.sandbox._INSIDE", broken)
    with pytest.raises(EngineError, match="no memory for it"):
        list(
            CodeChecker(deadline_s=60, memory_mb=512, workers=1).grade_many(
                [item("```python\nx = 1\n```", "assert x")]
            )
        )


def test_the_sandbox_starts_whatever_descriptors_are_taken() -> None:
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(30)]
    try:
        assert run_python("print(1 + 1)", seconds=60, megabytes=512).output == "2\n"
    finally:
        for each in held:
            os.close(each)


def test_a_command_reads_and_writes_lines(tmp_path: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    one = json.loads(line)\n"
        "    if not one['prediction']: print(json.dumps({'verdict': 'no_answer'}))\n"
        "    else: print(json.dumps({'correct': one['prediction'] == one['gold'], 'answer': one['prediction']}))\n"
    )
    checker = CommandChecker(f"{sys.executable} {script}", deadline_s=60)
    found = list(checker.grade_many([item("a", "a"), item("b", "a"), item("", "a")]))
    assert [(grade.verdict, grade.answer) for grade in found] == [
        ("correct", "a"),
        ("wrong", "b"),
        ("no_answer", ""),
    ]
    assert list(checker.grade_many([])) == []
    script.write_text(
        f"import os, signal\nos.kill(os.getpid(), signal.SIGTERM)  # to all of the job\n{script.read_text()}"
    )
    assert [grade.verdict for grade in checker.grade_many([item("a", "a")])] == ["correct"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys; sys.exit('no such table')", "exit code 1: no such table"),
        ("print('{}')\nprint('{}')", "wrote 2 lines for 1 answers"),
        ("print('yes')", "which is no verdict"),
        ('print(\'{"verdict": "maybe"}\')', "which is no verdict"),
        ('print(\'{"correct": "false"}\')', "which is no verdict"),  # a text: it would count as right
    ],
)
def test_a_command_that_fails_is_told_with_its_words(body: str, said: str, tmp_path: Path) -> None:
    script = tmp_path / "check.py"
    script.write_text(body)
    with pytest.raises(ConfigError, match=said):
        list(CommandChecker(f"{sys.executable} {script}", deadline_s=60).grade_many([item("a", "b")]))
    with pytest.raises(ConfigError, match="cannot be started"):
        list(CommandChecker(str(tmp_path / "nothing"), deadline_s=60).grade_many([item("a", "b")]))


@pytest.mark.parametrize(
    ("name", "kind"), [("exact", ExactText), ("code", CodeChecker), ("command: cat", CommandChecker)]
)
def test_the_checkers_are_chosen_by_name(name: str, kind: type) -> None:
    made = checker_of(override(RunConfig(), [f"grading.checker='{name}'"]))
    assert isinstance(made._found, kind)  # type: ignore[attr-defined]
