"""What is published is what was made: every digest is compared before anything is sent or listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hub.server import HubServer
from undo_hpc.cli import main
from undo_hpc.errors import DataError, EvidenceError
from undo_hpc.hub.contents import packages
from undo_hpc.hub.push import push
from undo_hpc.pipeline.layout import IterationLayout
from undo_hpc.pipeline.run import Run

Publishable = Callable[..., Run]
FILES: dict[str, Callable[[IterationLayout], Path]] = {
    "distilled": lambda at: sorted(at.distilled.glob("*.parquet"))[0],
    "weights": lambda at: at.student / "model.safetensors",
    "settings": lambda at: at.student / "config.json",
    "predictions": lambda at: at.predictions,
    "metrics": lambda at: at.metrics,
}


def chosen(run: Run, name: str) -> Path:
    """The file in the iteration that is published: the student's in the chosen one."""
    best = next(p for p in packages(run) if p.kind == "model").message.rpartition(" ")[2]
    return FILES[name](run.layout.iteration(int(best)))


def flip(path: Path) -> None:
    """One bit in the middle, the size as before."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_file_is_refused_and_named(
    publishable: Publishable, server: HubServer, capsys: pytest.CaptureFixture[str], name: str, how: str
) -> None:
    run = publishable()
    path = chosen(run, name)
    if how == "flipped":
        flip(path)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    before = len(server.requests)
    with pytest.raises(EvidenceError, match=path.name):
        push(run)
    assert main(["push", str(run.layout.root), "--dry-run"]) == 3
    assert path.name in capsys.readouterr().err
    assert len(server.requests) == before and not server.repos, "nothing was sent"


def test_a_file_from_outside_is_refused(publishable: Publishable, server: HubServer) -> None:
    run = publishable()
    (run.layout.iteration(0).distilled / "distilled-00009.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not in its manifest"):
        push(run)
    assert server.requests == []


def test_the_chat_format_is_made_from_the_rows_again(publishable: Publishable, server: HubServer) -> None:
    run = publishable()
    path = run.layout.iteration(1).chat
    whole = path.read_bytes()
    flip(path)
    push(run)
    assert server.repos["datasets/me/data"].files["chat/iteration_001.jsonl"] == whole
