"""Runs a program of a model and its tests in this process, and says whether the tests were passed. Standard library only.

`python -I start.py GIVEN TOLD PROGRAM TESTS`. The program is a module of the name `program`, as it is one to the harnesses of HumanEval and
MBPP: what it does as `__main__` (asking for input, ending the process) is not done. The tests go on in its names as `__main__`: those that
the data ends in `if __name__ == "__main__": unittest.main()` would test nothing otherwise. Where both have ended, the word that is read
from the descriptor GIVEN is written to TOLD, and the process ends: what the program does at its exit (a last line, a thread that goes on,
another exit code) is no matter of its tests.
"""

import os
import sys
from types import TracebackType


def main() -> None:
    """Runs both. Ends this process where they have passed, raises what they raise otherwise."""
    given, told = int(sys.argv[1]), int(sys.argv[2])
    word = os.read(given, 100)
    os.close(given)
    os.set_inheritable(told, False)
    program, tests = sys.argv[3:]
    module = type(sys)("program")
    module.__dict__.update(__file__=program, __builtins__=sys.modules["builtins"])
    sys.argv = [program]
    sys.path.append(os.path.dirname(program))  # noqa: PTH120 -- for child processes that look for `program`
    sys.modules["program"] = sys.modules["__main__"] = module
    texts = [_read(program), _read(tests)]
    exec(compile(texts[0], program, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 -- that is what it is for
    module.__name__ = "__main__"
    try:
        exec(compile(texts[1], tests, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except SystemExit as end:
        if end.code or "unittest" not in texts[1] or not _by_unittest(end.__traceback__, program):
            raise
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 -- contextlib would be loaded for each program
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed, full, or something else by now
            pass
    os.write(told, word)
    os._exit(0)


def _read(path: str) -> str:
    with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123 -- pathlib would be loaded for each program
        return file.read()


def _by_unittest(trace: TracebackType | None, program: str) -> bool:
    """Whether `unittest.main()` of the tests has ended the process, and no function of the program on the way."""
    files = []
    while trace:
        files.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return files[-1] == getattr(sys.modules.get("unittest.main"), "__file__", None) and program not in files


if __name__ == "__main__":
    main()
