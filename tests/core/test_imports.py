"""The rooms import downwards only, and the login-node side never loads torch, transformers or other heavy packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import undo_hpc

ROOT = Path(undo_hpc.__file__).parent

# From the ground up. A room may import itself and what stands below it.
LEVELS = [
    {"__init__", "errors", "records", "process", "commands", "shipped"},
    {"config"},
    {"layout"},
    {"storage", "statistics", "workload", "refinement", "selection", "decision", "quality"},
    {"plan"},
    {"state"},
    {"tiny", "prompts", "grading"},
    {"equations"},
    {"diagnosis"},
    {"models"},
    {"engines"},
    {"run"},
    {"data", "benchmarks", "training", "cluster"},
    {"precheck"},
    {"stages"},
    {"campaign"},
    {"dispatch"},
    {"observe"},
    {"hub", "doctor", "regrade"},
    {"worker", "cli"},
]
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
HEAVY = ("torch", "transformers", "deepspeed", "vllm", "datasets", "sympy", "math_verify", "accelerate", "peft")


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text()).body:
        nodes = [node] if not isinstance(node, ast.If) else []  # `if TYPE_CHECKING` loads nothing
        for item in nodes:
            if isinstance(item, ast.ImportFrom) and item.module and item.module.startswith("undo_hpc"):
                names.add(item.module)
            elif isinstance(item, ast.Import):
                names.update(a.name for a in item.names if a.name.startswith("undo_hpc"))
    return names


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for module in imports_of(path):
        other = room_of(module)
        assert room in LEVEL and other in LEVEL, f"give {room} and {other} a place in LEVELS"
        assert LEVEL[other] <= LEVEL[room], f"{path.relative_to(ROOT)} imports {module}: upwards"


@pytest.mark.parametrize(
    "module",
    [
        "undo_hpc.cli.run_iteration",
        "undo_hpc.campaign",
        "undo_hpc.cluster.local",
        "undo_hpc.observe.summary",
        "undo_hpc.grading",
    ],
)
def test_the_login_side_is_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_loads_next_to_nothing() -> None:
    launcher = ROOT.parent / "launchers" / "run_iteration.py"
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(launcher)!r}, run_name='__main__')\n"
        f"except SystemExit: pass\n"
        f"print([m for m in {(*HEAVY, 'pydantic', 'pyarrow', 'rich', 'yaml')!r} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip().endswith("[]")
    assert "--dry-run" in found.stdout
