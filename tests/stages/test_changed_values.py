"""One value of one file is another, before each stage: it is noticed with a message, or it changes nothing of what the stage makes.

UNDO_FUZZ=N tries N cases a stage.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_damaged_runs import VALUES, places, put
from tests.observe.synthetic import RunBuilder
from tests.search import FUZZ
from tests.stages.test_every_write import make_quick
from undo_hpc import worker
from undo_hpc.pipeline.run import open_run
from undo_hpc.stages import evaluate, generate
from undo_hpc.stages.attempts import basis_of
from undo_hpc.storage.atomic import write_bytes, write_json
from undo_hpc.storage.manifest import read_manifest
from undo_hpc.storage.shards import encode_sealed, read_rows

STAGES = ("generate", "merge", "train", "evaluate", "advance")
GONE = object()
TRIED = FUZZ or 12


def work(root: Path, stage: str) -> int:
    return worker.main([str(root), stage, "--iteration", "1"])


def made(root: Path, stage: str) -> dict[str, str]:
    """Digests of what a stage has made in iteration 1; of a training, which is asked for its tokens and loss, what it counts as well."""
    at = open_run(root).layout.iteration(1)
    path = {"generate": at.manifest_of(at.shard("generate", 0)), "evaluate": at.task_manifest("evaluate", 0)}
    manifest = read_manifest(path.get(stage, at.stage_manifest(stage)))
    assert manifest is not None
    counted = {"counts": json.dumps(manifest.counts)} if stage == "train" else {}
    return counted | {name: output.sha256 for name, output in manifest.outputs.items()}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_quick(monkeypatch)
        for stage in (generate, evaluate):  # as of the runs that are played
            monkeypatch.setattr(stage, "checker_version", lambda config: "")
        yield


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, str]]]:
    """A run before each stage of its second iteration, with what an unfinished start of the stage has left; and what the stage makes."""
    place = tmp_path_factory.mktemp("values")
    sets = ["generate.shards=1", "evaluate.baseline=true", "display.report=false", "stop.patience=9"]
    builder = RunBuilder(place / "run", problems=4, validation=3, benchmarks={"gsm": 2}, sets=sets)
    builder.play(1)
    builder.plan(1)
    found = {}
    for stage in STAGES:
        copy = Path(shutil.copytree(builder.root, place / stage))
        assert work(builder.root, stage) == 0
        found[stage] = (copy, made(builder.root, stage))
        _unfinished(builder.root, copy, stage)
    return found


def _unfinished(done: Path, root: Path, stage: str) -> None:
    """Half of the rows of a shard in the making; the state of a training."""
    at, there = (open_run(path).layout.iteration(1) for path in (root, done))
    shards = {
        "generate": [there.shard("generate", 0)],
        "evaluate": sorted(there.answers("evaluate").rglob("shard-*0.jsonl")),
    }
    path = {
        "generate": there.manifest_of(there.shard("generate", 0)),
        "evaluate": there.task_manifest("evaluate", 0),
    }
    for shard in shards.get(stage, ()):
        manifest, rows = read_manifest(path[stage]), list(read_rows(shard))
        assert manifest is not None and rows
        target = at.part(at.root / shard.relative_to(there.root), 0, basis_of(manifest.inputs), "1-1")
        write_bytes(target, map(encode_sealed, rows[: -(-len(rows) // 2)]))
    if stage == "train":
        write_json(at.train_inputs, json.loads(there.train_inputs.read_text()))
        rows = [
            {"step": k, "loss": 1.0 / k, "tokens": 10, "target_tokens": 5, "tokens_per_s": 3.0, "time": 1.0}
            for k in (1, 2)
        ]
        write_bytes(at.train_metrics, map(encode_sealed, rows))


def documents(path: Path) -> list[Any]:
    text = path.read_text()
    return [json.loads(line) for line in (text.splitlines() if path.suffix == ".jsonl" else [text])]


def cases(root: Path) -> Iterator[tuple[str, int, tuple[str | int, ...], Any]]:
    """Every place of the first two rows of every file, with every value."""
    for path in sorted(root.rglob("*.json*")):
        name = path.relative_to(root).as_posix()
        if name.startswith(("report/", "config.resolved.json")):
            continue
        for at, row in enumerate(documents(path)[:2]):
            yield from ((name, at, place, value) for place in places(row) for value in (*VALUES, GONE))


def change(path: Path, at: int, place: tuple[str | int, ...], value: Any) -> None:
    rows = documents(path)
    rows[at] = put(rows[at], place, None if value is GONE else value)
    if value is GONE:
        inner = rows[at]
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _as_of_before_seals(root: Path) -> None:
    """Manifests and plans without their checksums, as earlier versions wrote them."""
    for path in [*root.rglob("*manifest.json"), *root.rglob("plan.json")]:
        data = json.loads(path.read_text())
        data.get("details", data).pop("seal", None)
        write_json(path, data)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("stage", STAGES)
def test_a_changed_value_is_noticed_or_changes_nothing(
    stage: str,
    sealed: bool,
    before: dict[str, tuple[Path, dict[str, str]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sound, expected = before[stage]
    if not sealed:
        sound = Path(shutil.copytree(sound, tmp_path / "sound"))
        _as_of_before_seals(sound)
    every = list(cases(sound))
    files = sorted({case[0] for case in every})
    rng = random.Random(stage if not FUZZ else None)
    by_file = {file: [case for case in every if case[0] == file] for file in files}
    chosen = [rng.choice(by_file[files[k % len(files)]]) for k in range(TRIED)]
    problems = []
    for number, (file, at, place, value) in enumerate(chosen):
        root = Path(shutil.copytree(sound, tmp_path / str(number)))
        change(root / file, at, place, value)
        code = work(root, stage)
        out = "".join(capsys.readouterr())
        what = (file, at, place, "GONE" if value is GONE else value)
        if "Traceback" in out or "UnexpectedError" in out or code not in (0, 2, 3):
            problems.append((*what, code, out.strip().splitlines()[-1:]))
        elif not sealed and file.endswith(("manifest.json", "plan.json")):
            continue  # nothing tells that a count is another; but whoever reads it says so, or can use it
        elif code == 0 and (now := made(root, stage)) != expected:
            problems.append(
                (*what, "BELIEVED", [name for name in expected if now.get(name) != expected[name]])
            )
        shutil.rmtree(root)
    assert not problems, "\n".join(map(str, problems))
