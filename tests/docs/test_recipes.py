"""The recipes, followed word for word: one run on this machine has the reader's benchmark, engine, checker and stage."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import PAGES, follow_recipes, recipe
from tests.slurm.small import Campaign, make_campaign
from undo_hpc.config.fields import merged
from undo_hpc.config.load import load_config
from undo_hpc.config.schema import SourceConfig
from undo_hpc.control.checks.settings import check_plugins
from undo_hpc.data import load_problems
from undo_hpc.errors import ConfigError
from undo_hpc.prompts import load_prompts
from undo_hpc.prompts.prompt_set import KNOWN
from undo_hpc.storage.manifest import read_manifest


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A finished run with all recipes at once."""
    campaign = make_campaign(tmp_path_factory.mktemp("recipes"), iterations=2, train__epochs=1)
    own = follow_recipes(campaign.folder, "benchmark", "engine", "checker", "stage")
    campaign.config = merged(campaign.config, own)
    campaign.run_locally()
    return campaign


def manifest(campaign: Campaign, name: str) -> Any:
    found = read_manifest(campaign.run_dir / "iter_000" / name)
    assert found is not None
    return found


def rows(campaign: Campaign, pattern: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted((campaign.run_dir / "iter_000").glob(pattern))
        for line in path.read_text().splitlines()
    ]


def test_data_set(tmp_path: Path) -> None:
    follow_recipes(tmp_path)
    loaded = load_problems(
        SourceConfig.model_validate(yaml.safe_load(recipe("data source"))), base_dir=tmp_path
    )
    assert [(p.problem, p.ground_truth) for p in loaded.problems] == [
        ("A pen costs 3 euros. What do 7 pens cost? Give the number.", "21"),
        ("What is half of 18? Give the number.", "9"),
    ]


def test_benchmark(followed: Campaign) -> None:
    assert len(rows(followed, "evaluate/pens/shard-*.jsonl")) == 2
    metrics = json.loads((followed.run_dir / "iter_000" / "metrics.json").read_text())
    assert metrics["sets"]["pens"]["n"] == 2


def test_engine(followed: Campaign) -> None:
    assert manifest(followed, "generate/shard-00000.manifest.json").details["engine"] == {
        "engine": "echo",
        "most_words": 20,
    }
    answers = rows(followed, "generate/shard-*.jsonl")
    assert answers and all(1 <= row["completion_tokens"] <= 20 for row in answers)


def test_checker(followed: Campaign) -> None:
    graded = rows(followed, "generate/shard-*.jsonl") + rows(followed, "evaluate/*/shard-*.jsonl")
    assert {row["method"] for row in graded} == {"last word"}


def test_stage(followed: Campaign) -> None:
    for iteration in (0, 1):
        at = followed.run_dir / f"iter_{iteration:03d}"
        counted = [json.loads((at / "count" / f"rows-{k}.json").read_text())["rows"] for k in (0, 1)]
        made = read_manifest(at / "merge.manifest.json")
        assert made is not None and counted == [made.counts["rows"]] * 2
        done = read_manifest(at / "count" / "task-00001.manifest.json")
        assert done is not None and "merge" in done.inputs


BROKEN = {
    "engine": ("my_pkg/engines.py", "generate.engine.name"),
    "checker": ("my_pkg/checkers.py", "grading.checker"),
    "stage": ("my_pkg/count.py", "stages.count.module"),
}
WRONG = {
    "import nothing_like_this\n": "cannot load",
    "1 / 0\n": r"ZeroDivisionError.*\.py, line 1",
    "class EchoEngine: pass\nclass LastWord: pass\nrun_stage = 3\n": "has no method|cannot be called",
    "class EchoEngine:\n  def __init__(self): ...\n  describe = generate = close = print\n"
    "class LastWord:\n  def __init__(self, a): ...\n  def grade_many(self, items): ...\ndef run_stage(): ...\n": "cannot be called as",
    "": "cannot load",
}


@pytest.mark.parametrize("text", WRONG, ids=["import", "error", "shape", "arguments", "name"])
@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_loaded_is_refused_before_anything_starts(
    what: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = follow_recipes(tmp_path, what)
    file, key = BROKEN[what]
    (tmp_path / file).write_text(text)
    package = f"pkg_{tmp_path.name.replace('-', '_')}"  # modules are imported once in a process
    (tmp_path / "my_pkg").rename(tmp_path / package)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(config).replace("my_pkg", package))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=WRONG[text]) as raised:
        check_plugins(load_config("my.yaml"))
    assert key in raised.value.message and raised.value.hint


def test_another_python_may_know_more_packages_but_a_wrong_shape_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the profile sets up the environment of tasks, the login node's Python need not have the package."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profile.yaml").write_text("setup: [source env.sh]\n")
    (tmp_path / "other_pkg_shape.py").write_text("class LastWord: pass\n")
    text = "cluster: {kind: slurm, profile: profile.yaml}\nplugins: [.]\ngrading: {checker: '%s:LastWord'}\n"
    (tmp_path / "my.yaml").write_text(text % "nobody_has_this")
    check_plugins(load_config("my.yaml"))
    (tmp_path / "my.yaml").write_text(text % "other_pkg_shape")
    with pytest.raises(ConfigError, match="has no method grade_many"):
        check_plugins(load_config("my.yaml"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("plugins: [nowhere]\n")
    with pytest.raises(ConfigError, match="no folder nowhere"):
        check_plugins(load_config(str(tmp_path / "my.yaml")))


def test_an_entry_point_gives_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow_recipes(tmp_path)
    info = tmp_path / "echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[undo_hpc.engines]\necho = my_pkg.engines:EchoEngine\n[undo_hpc.stages]\ncount = my_pkg.count:run_stage\n"
        "[undo_hpc.checkers]\nlast_word = my_pkg.checkers:LastWord\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my.yaml").write_text(
        "generate: {engine: {name: echo}}\nstages: {count: {}}\ngrading: {checker: last_word}\n"
    )
    check_plugins(load_config(str(tmp_path / "my.yaml")))
    with pytest.raises(ConfigError, match="no engine 'ecco'"):
        load_config(str(tmp_path / "my.yaml"), ["generate.engine.name=ecco"])


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
