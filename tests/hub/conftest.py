"""A played run to publish, and a Hub to publish on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub.server import HubServer
from tests.observe.synthetic import RunBuilder
from undo_hpc.config.load import override
from undo_hpc.pipeline.run import Run, open_run


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two whole iterations; copy it before you change it."""
    root = tmp_path_factory.mktemp("hub") / "run"
    RunBuilder(root, problems=30, sets=["display.chat_format=true"]).play(2)
    return root


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The Hub on loopback, and an environment in which it is reached by its plain protocol with a writer's token."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # for processes of their own
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_TOKEN", "writer")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with HubServer() as hub:
        yield hub


@pytest.fixture
def publishable(played: Path, server: HubServer, tmp_path: Path) -> Callable[..., Run]:
    """A copy of the run with repositories named; further settings as in --set."""

    def make(*sets: str) -> Run:
        root = tmp_path / "run"
        if not root.exists():
            shutil.copytree(played, root)
        run = open_run(root)
        asked = [f"hub.endpoint={server.url}", "hub.dataset_repo=me/data", "hub.model_repo=me/student", *sets]
        config = override(run.config, asked)
        from undo_hpc.pipeline.run import create_or_open

        return create_or_open(config, root, command=["test"])

    return make
