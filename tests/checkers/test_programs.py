"""What programs of a model may do and what counts as passed, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import undo_hpc
from tests.checkers.test_checkers import item
from undo_hpc.checkers.code import CodeChecker
from undo_hpc.checkers.inside import _counts_by_namespace
from undo_hpc.checkers.sandbox import TAKEN, Outcome, run_python

REPO = Path(undo_hpc.__file__).parent.parent
SEVERAL = {
    "numpy": "import numpy\na = numpy.random.rand(300, 300)\nnumpy.linalg.inv(a @ a)",
    "threads": "from concurrent.futures import ThreadPoolExecutor as P\nimport time\nwith P(32) as e: list(e.map(time.sleep, [0.05] * 40))",
    "to_thread": "import asyncio\nasync def f(): return await asyncio.to_thread(int, 1)\nassert asyncio.run(f()) == 1",
    "deep": "import sys, threading\nthreading.stack_size(1 << 26)\nt = threading.Thread(target=print)\nt.start()\nt.join()",
}
CHILDREN = {
    "fork": "import os\nos.fork()",
    "subprocess": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])",
    "spawn": "import os\nos.posix_spawn('/bin/true', ['true'], {})",
    "bomb": "import os\nwhile True: os.fork()",
}
RUN = """
import json, sys, time
from undo_hpc.checkers.sandbox import TAKEN, Outcome, run_python
found = {}
for name, program in json.loads(sys.stdin.read()).items():
    start = time.monotonic()
    done = run_python(program, seconds=20, megabytes=512)
    found[name] = done.passed, time.monotonic() - start, done.output, sorted(done.taken)
print(json.dumps(found))
"""
# To a user in a mount namespace the way to the interpreter is open, which may lie in root's home.
AS_NOBODY = """
set -e
shift
count=0; for place; do mkdir "$WORK/$count"; mount --bind "$place" "$WORK/$count"; count=$((count + 1)); done
for closed in $CLOSED; do mount -t tmpfs none "$closed"; chmod 755 "$closed"; done
count=0; for place; do
  case " $CLOSED " in *" $(echo "$place" | cut -d/ -f1-2) "*) mkdir -p "$place"; mount --bind "$WORK/$count" "$place";; esac
  count=$((count + 1))
done
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$PYTHON" -P -c "$RUN"
"""


def outcomes(
    programs: dict[str, str], user: str, work: Path
) -> dict[str, tuple[bool, float, str, list[str]]]:
    """What becomes of programs that this user, or another one, lets run."""
    env = os.environ | {"RUN": RUN, "PYTHON": sys.executable, "PYTHONPATH": str(REPO), "WORK": str(work)}  # fmt: skip
    command = [sys.executable, "-P", "-c", RUN]
    if user == "nobody":
        if os.getuid():
            pytest.skip("this user is an ordinary one")
        places = [
            str(place) for place in dict.fromkeys((Path(sys.base_prefix), Path(sys.prefix).resolve(), REPO))
        ]
        tops = dict.fromkeys(Path(*Path(place).parts[:2]) for place in places)
        env["CLOSED"] = " ".join(str(top) for top in tops if not top.stat().st_mode & 1)
        env["TMPDIR"] = "/tmp"  # pytest's own lets nobody in
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", AS_NOBODY, "sh", "", *places]
    done = subprocess.run(command, input=json.dumps(programs), env=env, capture_output=True, text=True, check=False)  # fmt: skip
    if user == "nobody" and done.returncode and "Operation not permitted" in done.stderr:
        pytest.skip("no mount namespaces here")
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[bool, float, str, list[str]]] = json.loads(done.stdout)
    if not all("files" in taken for _, _, _, taken in found.values()) or not _counts_by_namespace():
        pytest.skip("no user namespaces here that count their processes")
    return found


@pytest.mark.parametrize("user", ["this", "nobody"])
def test_threads_are_the_same_to_every_user(user: str, tmp_path: Path) -> None:
    """A product of matrices failed for every user but root: threads count as processes."""
    found = outcomes(SEVERAL, user, tmp_path)
    assert [name for name, (passed, *_) in found.items() if not passed] == [], found


@pytest.mark.parametrize("user", ["this", "nobody"])
def test_no_child_process_is_started(user: str, tmp_path: Path) -> None:
    """Each has the whole of all limits, and root's are not counted: a loop of forks had thousands before it was ended."""
    found = outcomes(CHILDREN, user, tmp_path)
    assert {name for name, (_, _, said, _) in found.items() if "PermissionError" in said} == set(CHILDREN), (
        found
    )


def test_threads_get_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = f"""
import os, socket, threading
def reach():
    for act in (lambda: socket.socket(socket.AF_UNIX), lambda: os.truncate({str(tmp_path / "ours")!r}, 0)):
        try:
            act()
            print("reached", flush=True)
        except OSError:
            pass
(thread := threading.Thread(target=reach)).start()
thread.join()
print("end")
"""
    (tmp_path / "ours").write_text("words")
    done = run_python(program, seconds=20, megabytes=512)
    if "files" not in done.taken or not _counts_by_namespace():
        pytest.skip("no user namespaces here that count their processes")
    assert done.passed and done.output == "end\n" and (tmp_path / "ours").read_text() == "words"


def graded(answers: dict[str, str], tests: str) -> dict[str, str]:
    checker = CodeChecker(deadline_s=3, memory_mb=512, workers=2)
    grades = checker.grade_many(item(f"```python\n{answer}\n```", tests) for answer in answers)
    return {answer: grade.verdict for answer, grade in zip(answers, grades, strict=True)}


UNITTEST = """
import unittest
class T(unittest.TestCase):
    def test(self):
        self.assertEqual(f(), 1)
if __name__ == "__main__":
    unittest.main()
"""


@pytest.mark.parametrize("tests", ["assert f() == 1", UNITTEST], ids=["assert", "unittest"])
def test_an_answer_is_a_module_and_its_tests_are_the_script(tests: str) -> None:
    """The harnesses of HumanEval and MBPP do not run what an answer does as `__main__`: it asked for input, or ended the process."""
    right = "import sys\ndef f():\n    return 1\n"
    answers = {
        f"{right}if __name__ == '__main__':\n    print(int(input()))": "correct",
        f"{right}if __name__ == '__main__':\n    sys.exit(f())": "correct",
        f"import atexit\natexit.register(print, 'bye')\n{right}": "correct",
        f"import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n{right}": "correct",
        f"{right}sys.stdout.close()": "correct",
        "def f():\n    return 2": "wrong",
        f"{right}sys.exit()": "wrong",
        "import os\ndef f():\n    os._exit(0)": "wrong",
        "def f():\n    raise SystemExit(0)": "wrong",
        "import functools\nf = functools.partial(exit, 0)": "wrong",
        "from unittest import main as f": "wrong",
        "import os, sys\nprint(open(__file__).read()[-60:])\nsys.stdout.flush()\nos._exit(0)": "wrong",
        "import os\nfor each in range(3, 64):\n    try:\n        os.write(each, b'passed')\n    except OSError:\n        pass\nos._exit(0)": "wrong",
    }  # fmt: skip
    assert graded(answers, tests) == answers


def test_a_module_that_is_no_main_can_be_looked_at() -> None:
    program = """
from __future__ import annotations
import dataclasses, enum, inspect, pickle, typing
@dataclasses.dataclass
class A:
    x: list[A]
class E(enum.Enum):
    ONE = 1
def f(a: A) -> E:
    return E.ONE
assert __name__ != "__main__" and pickle.loads(pickle.dumps(A([]))) == A([])
"""
    tests = """
import __main__, pickle, inspect, typing
assert typing.get_type_hints(f) == {"a": A, "return": E} and typing.get_type_hints(A) == {"x": list[A]}
assert "return E.ONE" in inspect.getsource(f) and "x: list[A]" in inspect.getsource(A)
assert pickle.loads(pickle.dumps([f, E.ONE, A([])])) == [f, E.ONE, A([])] and __main__.f is f
assert "E.ONE" in open(__file__).read() and f.__module__ != "__main__" == __name__
f(A([])).two
"""
    done = run_python(program, tests, seconds=20, megabytes=512)
    said = done.output.splitlines()
    assert not done.passed and said[-1].startswith("AttributeError") and said[-2].strip().startswith(("f(A([])).two", "^")), done  # fmt: skip
    assert run_python(program, tests.rpartition("f(A")[0], seconds=20, megabytes=512).passed


@pytest.mark.parametrize(
    ("release", "counts"),
    [("6.18.44", True), ("5.14.0-427.el9.x86_64", True), ("5.13.19", False), ("4.18.0-553.el8_10.x86_64", False), ("6.1-rc1", False), ("odd", False)],
)  # fmt: skip
def test_processes_are_allowed_where_the_kernel_counts_them_for_the_program_alone(
    release: str, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    assert _counts_by_namespace() is counts


def test_a_system_on_which_programs_have_no_threads_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken = TAKEN | {"threads"}
    monkeypatch.setattr(
        "undo_hpc.checkers.code.run_python", lambda *_, **__: Outcome(True, 0, False, "", taken)
    )
    assert set(graded({"a = 1": "", "a = 2": ""}, "assert a").values()) == {"correct"}
    (told,) = (record.getMessage() for record in caplog.records)
    assert "can start no threads and no child processes" in told


def test_the_end_of_a_program_is_not_waited_for() -> None:
    start = time.monotonic()
    assert run_python(
        "import atexit, time\natexit.register(time.sleep, 600)", seconds=20, megabytes=256
    ).passed
    assert time.monotonic() - start < 15
