"""Only `pipeline/layout.py` knows the names of files and folders in a run directory."""

import ast
from pathlib import Path

import pytest

import undo_hpc
from undo_hpc.pipeline.layout import Layout

ROOT = Path(undo_hpc.__file__).parent
LAYOUT = ROOT / "pipeline" / "layout.py"
# Rooms that have no run directory: a campaign has a folder of its own (campaign/state.py), training a work directory of its own,
# models and tokenizers are Hugging Face folders.
ELSEWHERE = {"training", "tiny", "grading", "prompts", "models", "campaign"}


JOINING = ("joinpath", "glob", "rglob", "with_name")


def joined(path: Path) -> set[tuple[int, str]]:
    """Texts that a file puts behind a path: the right side of `/`, and the argument of joinpath, glob and with_name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.right]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in JOINING:
            parts = node.args
        for part in parts:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.add((part.lineno, part.value))
            elif isinstance(part, ast.JoinedStr):
                text = "".join(v.value if isinstance(v, ast.Constant) else "*" for v in part.values)
                found.add((part.lineno, text))
    return found


# A README.md lies in any data set; that of a run is no other.
NAMES = {name for _, name in joined(LAYOUT) if not name.startswith("*.")} - {"README.md"}
FOLDERS = {name.split("/")[0] for name in NAMES if "." not in name}


def test_the_layout_has_names() -> None:
    assert {"config.resolved.json", "events.jsonl", "metrics.jsonl", "checkpoints", "serve"} <= NAMES
    assert "iter_*" in NAMES


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_code_elsewhere_joins_these_names(path: Path) -> None:
    if path == LAYOUT or path.relative_to(ROOT).parts[0] in ELSEWHERE:
        return
    wrong = {
        (line, text)
        for line, text in joined(path)
        if text in NAMES or text.split("/")[0] in FOLDERS or text.startswith(("iter_", "shard-", "server-"))
    }
    assert not wrong, f"{path.relative_to(ROOT)} joins names of a run directory: use pipeline.layout"


def test_iterations_are_those_up_to_the_last_that_has_a_plan(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.iterations() == []
    for number in range(4):
        layout.iteration(number).logs.mkdir(parents=True)  # jobs of each are queued
    assert layout.iterations() == []
    layout.iteration(0).plan.touch()
    layout.iteration(1).plan.touch()
    assert layout.iterations() == [0, 1]
    layout.iteration(0).plan.unlink()
    assert layout.iterations() == [0, 1]
