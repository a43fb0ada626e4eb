"""What docs/architecture.md names is there: each file, each function behind a colon, each room of the package."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPO

PAGE = (REPO / "docs" / "architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py|[a-z_]+\.py):([A-Za-z_.]+)`", PAGE)))
FILES = sorted(set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)[:`]", PAGE)))


def source(name: str) -> str:
    inside = REPO / "undo_hpc" / name
    return (inside if inside.exists() else REPO / name).read_text()


@pytest.mark.parametrize(("name", "what"), NAMED)
def test_the_function_is_in_the_file(name: str, what: str) -> None:
    last = what.split(".")[-1]
    assert re.search(rf"(def|class) {last}\b|^{last}\b", source(name), re.MULTILINE), f"{name}: no {last}"


@pytest.mark.parametrize("name", FILES)
def test_the_file_exists(name: str) -> None:
    assert source(name)


def test_every_room_has_its_row() -> None:
    rooms = {
        path.name
        for path in (REPO / "undo_hpc").iterdir()
        if path.is_dir() and (path / "__init__.py").exists()
    }
    assert rooms
    assert not {room for room in rooms if f"`{room}/`" not in PAGE}
