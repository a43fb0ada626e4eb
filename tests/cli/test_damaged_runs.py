"""Every file of a run in every kind of damage, before every verb and a worker: a message and an exit code, never a traceback."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_bad_input import DAMAGE, call, lines_for, require_message
from tests.observe.synthetic import RunBuilder
from tests.search import FUZZ
from undo_hpc import worker
from undo_hpc.cluster.journal import SubmissionJournal
from undo_hpc.cluster.profile import Profile
from undo_hpc.pipeline.layout import Layout
from undo_hpc.storage import lease as lease_module
from undo_hpc.storage.atomic import write_json


def _in_place(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


def _contents(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        try:
            path.write_bytes(change(path.read_bytes()))
        except ValueError:  # other values: of a file that is no JSON
            path.write_bytes(b"")

    return damage


STATES: dict[str, Callable[[Path], None]] = {
    **{name: _contents(change) for name, change in DAMAGE.items()},
    "binary": _contents(lambda data: bytes(range(256))),
    "zeros": _contents(lambda data: b"\0" * len(data)),
    "flipped bits": _contents(
        lambda data: bytes(b ^ 0x41 if at % 37 == 11 else b for at, b in enumerate(data))
    ),
    "twice": _contents(lambda data: data + data),
    "gone": _in_place(lambda path: None),
    "a folder": _in_place(lambda path: path.mkdir()),
    "a link to nowhere": _in_place(lambda path: path.symlink_to("nowhere")),
    "a link to itself": _in_place(lambda path: path.symlink_to(path.name)),
    "a pipe": _in_place(os.mkfifo),  # at which a reader waits for ever
}
FILES = [
    "config.resolved.json", "environment.json", "events.jsonl", "splits/manifest.json", "splits/train.jsonl", "splits/validation.jsonl",
    "iter_000/plan.json", "iter_000/metrics.json", "iter_000/feedback.jsonl", "iter_000/merge.manifest.json",
    "iter_000/evaluate/task-00000.manifest.json", "iter_000/generate/shard-00000.jsonl", "iter_000/events/baseline-00000.jsonl",
    "iter_000/targets/shard-00000.jsonl", "iter_000/train/metrics.jsonl", "iter_000/progress/merge-00000.json",
    "iter_000/distilled/distilled-00000.parquet", "iter_000/distilled/README.md", "iter_000/student/config.json",
]  # fmt: skip
# A few states of each file, all states over all files; with UNDO_FUZZ every pair.
PAIRS = [
    (file, state)
    for at, file in enumerate(FILES)
    for turn, state in enumerate(STATES)
    if FUZZ or (turn - 3 * at) % 8 == 0
]

GRADED = (
    "config.resolved.json",
    "iter_000/metrics.json",
    "iter_000/evaluate/task-00000.manifest.json",
    "iter_000/generate/shard-00000.jsonl",
)
STARTING = {next(pair for pair in PAIRS if pair[0] == file) for file in (FILES if FUZZ else GRADED)}


def more_lines(run_dir: Path, sound: Path, place: Path) -> list[list[str]]:
    """The verbs that read a run for something else: samples, exports, room, another run, differences, comparisons, a benchmark's file."""
    root, changed = str(run_dir), ["--set", "train.learning_rate=2e-5"]
    return [
        ["compare", root, str(sound)],
        ["logs", root, "train"],
        *(["show", root, "--stage", stage, "--json"] for stage in ("generate", "merge", "evaluate")),
        *(["export", root, "--format", form, "--out", str(place / form)] for form in ("trl", "preference")),
        ["prune", root, "--keep", "best", "--dry-run"],
        ["config", root, "--show"],
        ["config", "tiny", "--diff", root],
        ["fork", root, str(place / "forked"), *changed],
        ["data", "export", "gsm8k", str(place / "boxed"), "--path", str(run_dir / "splits" / "train.jsonl")],
        ["prune", root, "--keep", "last"],
    ]


# What a run on a cluster has beside them, before the verbs that read it.
ON_A_CLUSTER = [
    "submissions.jsonl", "profile.resolved.json", "hub.json", "campaign.json", "launcher.lease", "iter_000/leases/evaluate-00000.lease",
    "iter_000/serve/server-00000.json", "iter_000/train/inputs.json",
]  # fmt: skip
CLUSTER_PAIRS = [
    (file, state)
    for at, file in enumerate(ON_A_CLUSTER)
    for turn, state in enumerate(STATES)
    if FUZZ or (turn - 3 * at) % 8 == 0 or state in ("other types", "nulls", "a large number")
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("damaged") / "run"
    return RunBuilder(root, problems=8, sets=["display.report=false"]).play(1).layout.root


def test_every_state_is_met() -> None:
    assert {state for _, state in PAIRS} == set(STATES) and {file for file, _ in PAIRS} == set(FILES)


@pytest.mark.parametrize(("file", "state"), PAIRS)
def test_any_file_in_any_state(
    file: str, state: str, played: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = Path(shutil.copytree(played, tmp_path / "run"))
    assert Layout(run_dir).config.is_file()
    STATES[state](run_dir / file)
    starts = (file, state) in STARTING  # regrade starts processes: once for the files that it reads
    lines = [line for line in lines_for(run_dir) if starts or line[0] != "regrade"]
    lines += more_lines(run_dir, played, tmp_path)
    for words in lines:
        require_message(call(words), words, capsys.readouterr().err, (0, 2, 3))
    code = worker.main([str(run_dir), "merge", "--iteration", "0"])
    out = "".join(capsys.readouterr())
    assert code in (0, 2, 3) and "Traceback" not in out and "UnexpectedError" not in out, (code, out)


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was on a cluster, with all that jobs and launchers have left there."""
    sets = [
        "display.report=false",
        "cluster.kind=slurm",
        "cluster.code_snapshot=false",
        "cluster.check_shared=false",
    ]
    root = tmp_path_factory.mktemp("submitted") / "run"
    run = RunBuilder(root, problems=8, sets=sets).play(1)
    at = run.layout
    journal = SubmissionJournal(at.submissions)
    journal.intend("undo-x-merge", "merge", 0, 0, (0,), ())
    journal.submitted("undo-x-merge", "12")
    journal.intend("undo-x-train", "train", 0, 0, None, ("12",))
    profile = Profile.model_validate({"defaults": {"minutes": 30}, "stages": {"train": {"minutes": 5}}})
    write_json(at.profile, profile.model_dump(mode="json", exclude_defaults=True))
    write_json(at.pushed, {"time": 1.0, "urls": ["https://x/y"], "files": {"dataset:me/a": ["a"]}})
    write_json(at.iteration(0).train_inputs, {"student": "x", "config": "y"})
    write_json(at.campaign, {"command": ["--dir", "x"], "folder": "/"})
    owner = {
        "host": "elsewhere",
        "pid": 4_194_300,
        "start": "1",
        "heartbeat": "1.000",
        "token": "0a",
        "job": "12",
        "restart": 0,
    }
    for lease in (at.lease, at.iteration(0).lease("evaluate", 0)):
        write_json(lease, owner)
    write_json(
        at.iteration(0).server(0),
        owner | {"url": "http://h:1", "model": "m", "template_sha": "t", "stop_ids": [1]},
    )
    return at.root


@pytest.mark.parametrize(("file", "state"), CLUSTER_PAIRS)
def test_any_file_of_a_run_on_a_cluster_in_any_state(
    file: str,
    state: str,
    submitted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("squeue", "scancel", "sacct", "sinfo", "sbatch", "scontrol"):
        (commands / name).write_text("#!/bin/sh\n[ ${0##*/} != scontrol ] || echo 'ClusterName = here'\n")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setattr(lease_module, "WATCH_S", 0.1)
    run_dir = Path(shutil.copytree(submitted, tmp_path / "run"))
    STATES[state](run_dir / file)
    root = str(run_dir)
    lines = [
        ["status", root],
        ["status", root, "--json"],
        ["logs", root, "train"],
        ["cost", root],
        ["pause", root],
        ["cancel", root],
    ]
    lines += [
        ["run", "--run-dir", root, "--dry-run"],
        ["push", root, "--dry-run", "--dataset-repo", "me/a", "--model-repo", "me/b"],
    ]
    lines += [
        ["fork", root, str(tmp_path / "forked"), "--set", "train.learning_rate=2e-5"],
        ["prune", root, "--keep", "last"],
    ]
    for words in lines:
        require_message(call(words), words, capsys.readouterr().err, (0, 2, 3))


VALUES = (None, True, 7, -1, 1e300, 10**25, "odd", "", [], ["odd"], {"odd": 1})
SMALL = (
    "config.resolved.json",
    "events.jsonl", "environment.json", "splits/manifest.json", "iter_000/metrics.json", "iter_000/advance.manifest.json",
    "iter_000/train/metrics.jsonl", "iter_000/events/generate-00000.jsonl", "iter_001/plan.json", "iter_001/events/generate-00000.jsonl",
    "iter_001/generate/shard-00000.manifest.json",
)  # fmt: skip


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """All places in a JSON value; of a list its first two."""
    inside: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value[:2])
    for key, item in inside:
        yield (*path, key)
        yield from places(item, (*path, key))


def put(row: Any, path: tuple[str | int, ...], value: object) -> Any:
    """A copy with another value at a place."""
    changed = place = json.loads(json.dumps(row))
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in the middle of its second iteration."""
    builder = RunBuilder(
        tmp_path_factory.mktemp("unfinished") / "run", problems=8, sets=["display.report=false"]
    )
    builder.play(1)
    builder.generate(builder.plan(1), only=[0])
    return builder.root


@pytest.mark.parametrize("file", SMALL)
def test_one_value_of_a_small_file_is_another(
    file: str, unfinished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Most damage that is no torn file: a value, of a type that nobody expects there. With UNDO_FUZZ every value at every place."""
    path, root = unfinished / file, str(unfinished)
    before = path.read_text()
    rows = list(map(json.loads, before.splitlines() if path.suffix == ".jsonl" else [before]))
    cases = [(at, place, value) for at, row in enumerate(rows) for place in places(row) for value in VALUES]
    verbs = [
        ["status", root],
        ["cost", root],
        ["list", str(unfinished.parent)],
        ["run", "--run-dir", root, "--dry-run"],
    ]
    try:
        for number, (at, place, value) in enumerate(
            cases if FUZZ else random.Random(0).sample(cases, min(60, len(cases)))
        ):
            path.write_text(
                "".join(
                    json.dumps(put(row, place, value) if k == at else row) + "\n"
                    for k, row in enumerate(rows)
                )
            )
            for words in verbs if FUZZ else [verbs[number % len(verbs)]]:
                code = call(words)
                require_message(
                    code, [*words, file, str(place), repr(value)], capsys.readouterr().err, (0, 2, 3)
                )
    finally:
        path.write_text(before)
