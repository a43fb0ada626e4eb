"""The documentation holds: its commands parse, its keys exist, its recipes work when they are followed."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from typing import Any

import pytest
import yaml

from tests.conftest import REPO
from tests.docs.pages import PAGES, blocks, recipe
from undo_hpc.cli import VERBS
from undo_hpc.cli.reference import student_parser, teacher_parser
from undo_hpc.cli.run_campaign import build_parser as campaign_parser
from undo_hpc.cli.run_iteration import build_parser
from undo_hpc.cluster.profile import Profile
from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig

REFERENCE = {"launchers/teacher.py": teacher_parser, "launchers/student.py": student_parser}


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
    if words[1] == "launchers/run_campaign.py":
        campaign_parser().parse_args(rest)
        return
    if words[1] in REFERENCE:
        REFERENCE[words[1]]().parse_args(rest)
        return
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
        if key.endswith(".py"):
            continue  # a file, such as budget.py
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


def places_of(text: str) -> set[str]:
    """What a link into a page can name: headings as GitHub writes them, and anchors."""
    headings = (
        re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)", text, re.MULTILINE)
    )
    return {*headings, *re.findall(r'<a id="([^"]+)">', text)}


def test_links_into_pages_lead_to_a_place() -> None:
    for page in PAGES:
        for target, place in re.findall(r"\]\(([^)\s:#]*)#([^)\s]+)\)", page.read_text()):
            text = ((page.parent / target).resolve() if target else page).read_text()
            assert place in places_of(text), f"{page.name}: there is no #{place} in {target or page.name}"


def test_each_promise_of_the_readme_has_its_proof() -> None:
    """A link from it to the row with the command, and no row that nothing leads to."""
    proofs = re.findall(r"docs/reliability\.md#([\w-]+)", (REPO / "README.md").read_text())
    rows = re.findall(
        r'^\| <a id="([\w-]+)"></a>[^|]+\| `[^|]+',
        (REPO / "docs" / "reliability.md").read_text(),
        re.MULTILINE,
    )
    assert set(rows) == set(proofs) - {"the-promises-of-the-readme"}


def test_recipe_cluster() -> None:
    profile = Profile.model_validate(yaml.safe_load(recipe("profile")))
    assert profile.stages["train"].nodes == 2


def test_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    code = "\n".join(
        path.read_text() for folder in ("undo_hpc", "launchers") for path in (REPO / folder).rglob("*.py")
    )
    rows = re.findall(r"^\| (`.*?) \|", (REPO / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        for message in re.findall(r"`([^`]+)`", row):
            for piece in message.split("..."):
                assert piece.strip() in code, f"no message of ours says: {piece.strip()}"
