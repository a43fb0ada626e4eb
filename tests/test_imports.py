"""The rooms import downwards only, and the login-node side never loads torch, transformers or other heavy packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import undo_hpc

ROOT = Path(undo_hpc.__file__).parent

# From the ground up. A room may import itself and what stands below it, never a neighbour on its own level.
LEVELS = [
    {"errors", "records"},
    {"system"},
    {"config"},
    {"storage", "chat"},
    {"grading", "prompts", "tiny"},
    {"models"},
    {"method"},
    {"pipeline"},
    {"data", "engines", "training", "cluster", "tiny.makers"},
    {"checkers"},
    {"stages"},
    {"control"},
    {"observe", "doctor"},
    {"hub"},
    {"campaign"},
    {"worker", "cli"},
    {"warm"},
    {"__init__"},
]
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}
HEAVY = (
    "torch",
    "transformers",
    "deepspeed",
    "vllm",
    "datasets",
    "sympy",
    "math_verify",
    "accelerate",
    "peft",
)


def room_of(module: str) -> str:
    """The room of a dotted module: its folder below the package; the makers of the tiny models are a room of their own."""
    if module.startswith("undo_hpc.tiny.makers"):
        return "tiny.makers"
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(path: Path) -> set[str]:
    """Modules of this package that a file imports, at its top or inside functions; `if TYPE_CHECKING` loads nothing."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    names = set()
    for item in ast.walk(tree):
        if id(item) in typing_only:
            continue
        if isinstance(item, ast.ImportFrom) and item.module and item.module.split(".")[0] == "undo_hpc":
            if item.module == "undo_hpc" and {a.name for a in item.names} == {"__version__"}:
                continue  # a constant, set before anything else is imported
            if item.module == "undo_hpc":
                names.update(
                    f"undo_hpc.{a.name}"
                    if (ROOT / a.name).is_dir() or (ROOT / f"{a.name}.py").is_file()
                    else "undo_hpc"
                    for a in item.names
                )
            names.add(item.module)
        elif isinstance(item, ast.Import):
            names.update(a.name for a in item.names if a.name.split(".")[0] == "undo_hpc")
    return names


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    room = room_of(".".join(("undo_hpc", *path.relative_to(ROOT).with_suffix("").parts)))
    for module in imports_of(path):
        other = room_of(module)
        assert room in LEVEL and other in LEVEL, f"give {room} and {other} a place in LEVELS"
        assert other == room or LEVEL[other] < LEVEL[room], (
            f"{path.relative_to(ROOT)} imports {module}: not below it"
        )


@pytest.mark.parametrize(
    "module",
    ["undo_hpc.cli.run_iteration", "undo_hpc.cluster.local", "undo_hpc.observe.summary", "undo_hpc.grading"],
)
def test_the_login_side_is_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("stage", ["generate", "merge", "train", "evaluate", "advance"])
def test_a_task_loads_nothing_large_before_its_engine(stage: str) -> None:
    """A thousand tasks start at once, each from a shared file system."""
    code = f"import sys, undo_hpc.worker, undo_hpc.stages.{stage}; print([m for m in {(*HEAVY, 'numpy', 'pyarrow', 'jinja2')!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_look_at_a_run_loads_what_it_needs() -> None:
    """`undo-hpc status` of ten thousand shards takes half a second, most of it for loading code."""
    code = (
        "import sys, undo_hpc.cli.verbs.status, undo_hpc.observe.status, undo_hpc.observe.status_view\n"
        "print([m for m in ('jinja2', 'undo_hpc.grading', 'undo_hpc.data', 'undo_hpc.stages') if m in sys.modules])"
    )
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
