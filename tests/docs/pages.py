"""The pages of the documentation, and the blocks in them that tests follow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPO
from undo_hpc.config.fields import merged

PAGES = [*sorted((REPO / "docs").glob("*.md")), REPO / "slurm" / "README.md", REPO / "README.md"]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> Iterator[tuple[str, str, str]]:
    """(page, words after the language, text) of the fenced blocks."""
    for page in PAGES:
        for found, words, text in BLOCK.findall(page.read_text()):
            if found == language:
                yield page.name, words.strip(), text


def recipe(words: str) -> str:
    """A block of the recipes, by the words behind its language."""
    return next(
        text
        for language in ("yaml", "json", "python", "jinja")
        for page, name, text in blocks(language)
        if page == "recipes.md" and name == words
    )


def follow_recipes(folder: Path, *configs: str) -> dict[str, Any]:
    """Writes the files of the recipes into a folder, as a reader would; returns the configurations of those recipes, one over another."""
    for page, words, text in blocks("python"):
        if page == "recipes.md" and words.startswith("file "):
            path = folder / words.removeprefix("file ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (folder / "problems.jsonl").write_text(recipe("data problems.jsonl"))
    (folder / "pens.yaml").write_text(recipe("benchmark pens.yaml"))
    result: dict[str, Any] = {}
    for name in configs:
        result = merged(result, yaml.safe_load(recipe(f"config {name}")))
    return result
