"""The machine at hand: how many tasks run at once."""

from pathlib import Path

import pytest
from rich.console import Console

from undo_hpc.cluster.local import LocalCluster, has_gpu
from undo_hpc.config.schema import RunConfig
from undo_hpc.layout import Layout
from undo_hpc.observe.progress import NoDisplay
from undo_hpc.run import Run


def most(**cluster: int) -> int:
    run = Run(Layout(Path("/nowhere")), RunConfig.model_validate({"cluster": cluster}))
    return LocalCluster(run, NoDisplay(Console()))._most


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_none(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not has_gpu() and most() == 2


def test_tasks_do_not_share_a_gpu_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undo_hpc.cluster.local.has_gpu", lambda: True)
    assert most() == 1 and most(max_processes=3) == 3
