"""The documentation holds: its commands parse, its keys exist, its recipes work when they are followed."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPO
from tests.observe.synthetic import RunBuilder
from undo_hpc.cli import VERBS
from undo_hpc.cli.run_iteration import build_parser
from undo_hpc.cluster.profile import Profile
from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig, SourceConfig
from undo_hpc.data import load_problems
from undo_hpc.data.benchmarks import load_benchmark
from undo_hpc.engines.base import Request
from undo_hpc.pipeline.plan import Stage, Task
from undo_hpc.prompts import load_prompts
from undo_hpc.prompts.prompt_set import KNOWN
from undo_hpc.storage.manifest import read_manifest

PAGES = [
    *sorted((REPO / "launchers" / "docs").glob("*.md")),
    REPO / "slurm" / "README.md",
    REPO / "README.md",
]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> Iterator[tuple[str, str, str]]:
    """(page, words after the language, text) of the fenced blocks."""
    for page in PAGES:
        for found, words, text in BLOCK.findall(page.read_text()):
            if found == language:
                yield page.name, words.strip(), text


def recipe(words: str) -> str:
    return next(
        text
        for language in ("yaml", "json", "python", "jinja")
        for page, name, text in blocks(language)
        if page == "recipes.md" and name == words
    )


def commands() -> list[tuple[str, str]]:
    found = []
    for page, _, text in blocks("bash"):
        found += [
            (page, line) for line in text.splitlines() if line.startswith(("undo-hpc ", "python launchers/"))
        ]
    for page in PAGES:
        found += [(page.name, text) for text in re.findall(r"`(undo-hpc [a-z]+[^`]*)`", page.read_text())]
    return found


def parser_of(verb: str) -> argparse.ArgumentParser:
    if verb == "run":
        return build_parser("undo-hpc run")
    parser = argparse.ArgumentParser(prog=verb)
    importlib.import_module(f"undo_hpc.cli.verbs.{verb}").add_arguments(parser)
    return parser


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_of_the_docs_parses(page: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line.replace("[FOLDER]", "FOLDER").replace("[TASK]", "0"), comments=True)
    verb, rest = ("run", words[2:]) if words[0] == "python" else (words[1], words[2:])
    assert verb in VERBS, f"{page}: no verb {verb}"
    if "..." in rest or "VERB" in words or "--help" in rest:
        return
    names_only = all(not word.startswith("-") for word in rest)
    try:
        arguments = parser_of(verb).parse_args(rest)
    except SystemExit:
        assert names_only, (
            f"{page}: {line}: {capsys.readouterr().err}"
        )  # `undo-hpc logs` alone is the verb's name
        return
    override(RunConfig(), [s for s in getattr(arguments, "sets", []) if "FILE" not in s])


SECTIONS = "|".join(name for name in RunConfig.model_fields if name not in ("name", "seed", "iterations"))
KEY = re.compile(rf"`(?!teacher\.py|student\.py|student\.txt)((?:{SECTIONS})(?:\.[a-z_]+)+)(?:=([^`]+))?`")


def test_every_key_of_the_docs_exists() -> None:
    found = [(page.name, key) for page in PAGES for key, _ in KEY.findall(page.read_text())]
    assert len(found) > 20
    for page, key in found:
        model: Any = RunConfig
        for part in key.split("."):
            if part.isupper() or model is None:
                break
            assert part in model.model_fields, f"{page}: no key {key}"
            inner = model.model_fields[part].annotation
            model = inner if isinstance(inner, type) and hasattr(inner, "model_fields") else None


def test_configurations_of_the_docs_are_valid() -> None:
    found = [(page, text) for page, words, text in blocks("yaml") if words == "config" or page == "README.md"]
    assert found
    for _, text in found:
        RunConfig.model_validate(yaml.safe_load(text))


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "problems.jsonl").write_text(recipe("data problems.jsonl"))
    (tmp_path / "pens.yaml").write_text(recipe("benchmark pens.yaml"))
    return tmp_path


def test_recipe_data_set(folder: Path) -> None:
    source = SourceConfig.model_validate(yaml.safe_load(recipe("data source")))
    loaded = load_problems(source, base_dir=folder)
    assert [(p.problem, p.ground_truth) for p in loaded.problems] == [
        ("A pen costs 3 euros. What do 7 pens cost? Give the number.", "21"), ("What is half of 18? Give the number.", "9")]  # fmt: skip


def test_recipe_benchmark(folder: Path) -> None:
    benchmark = load_benchmark(str(folder / "pens.yaml"))
    assert (benchmark.title, len(benchmark.problems), benchmark.licence) == ("Pens", 2, "CC-BY-4.0")


def test_recipe_prompts(tmp_path: Path) -> None:
    (tmp_path / "problem.txt").write_text(recipe("prompt"))
    prompts = load_prompts(str(tmp_path))
    assert prompts.problem("1 + {1}?", "In words.") == (
        "Solve this problem, and put the answer into \\boxed{}, fractions as \\frac{a}{b}.\n\n1 + {1}?\nAlso: In words.\n"
        "Sets are written as {{1}, {2}}."
    )
    page = next(page for page in PAGES if page.name == "recipes.md").read_text()
    for name, known in KNOWN.items():
        row = next(line for line in page.splitlines() if line.startswith("| `") and f"`{name}.txt`" in line)
        assert re.findall(r"`(\w+)`", row.split("|")[2]) == list(known)


def test_recipe_engine() -> None:
    names: dict[str, Any] = {}
    exec(recipe("engine"), names)
    engine = names["EchoEngine"]()
    requests = [Request(str(k), f"say {k} again", k, 0.0, 2) for k in range(3)]
    done = list(engine.generate(requests))
    assert [(c.id, c.text, c.completion_tokens) for c in done] == [
        ("0", "say 0", 2),
        ("1", "say 1", 2),
        ("2", "say 2", 2),
    ]
    assert list(engine.generate(requests, should_stop=lambda: True)) == []
    engine.close()


def test_recipe_stage(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path / "run", problems=20, benchmarks={})
    plan = builder.plan(0)
    builder.generate(plan)
    builder.single(plan, "merge")
    names: dict[str, Any] = {}
    exec(recipe("stage"), names)
    task = Task("advance", 0, "count", "iter_000/count.manifest.json", ("iter_000/count.json",))
    context = builder.context(
        plan, Stage("advance", 0, ("merge",), (task,), (), builder.graph(plan)["merge"].resources), task
    )
    with context.lease:
        names["run_stage"](context)
    manifest = read_manifest(builder.root / "iter_000/count.manifest.json")
    assert (
        manifest is not None
        and "merge" in manifest.inputs
        and (builder.root / "iter_000/count.json").exists()
    )


def test_recipe_cluster() -> None:
    profile = Profile.model_validate(yaml.safe_load(recipe("profile")))
    assert profile.stages["train"].nodes == 2


def test_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    code = "\n".join(
        path.read_text() for folder in ("undo_hpc", "launchers") for path in (REPO / folder).rglob("*.py")
    )
    rows = re.findall(
        r"^\| (`.*?) \|", (REPO / "launchers" / "docs" / "troubleshooting.md").read_text(), re.MULTILINE
    )
    assert len(rows) > 10
    for row in rows:
        for message in re.findall(r"`([^`]+)`", row):
            for piece in message.split("..."):
                assert piece.strip() in code, f"no message of ours says: {piece.strip()}"
