"""The machine at hand: how many tasks run at once."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from undo_hpc.cluster import local
from undo_hpc.cluster.local import LocalCluster, has_gpu
from undo_hpc.config.schema import PolicyConfig, RunConfig, StageResources
from undo_hpc.errors import Incomplete
from undo_hpc.observe.progress import NoDisplay
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.plan import Stage, StageName, Task
from undo_hpc.pipeline.run import Run
from undo_hpc.pipeline.state import TaskStatus


def most(**cluster: int) -> int:
    run = Run(Layout(Path("/nowhere")), RunConfig.model_validate({"cluster": cluster}))
    return LocalCluster(run, NoDisplay(Console()))._max_processes


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_none(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert not has_gpu() and most() == 2


@pytest.mark.parametrize(
    ("cpus", "threads", "tasks"), [(1, 1, 1), (2, 2, 1), (4, 2, 2), (64, 1, 2), (2, 8, 1)]
)
def test_tasks_have_their_threads_on_cpus_of_their_own(
    cpus: int, threads: int, tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cpus)))
    assert most(threads_per_process=threads) == tasks


def test_tasks_do_not_share_a_gpu_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undo_hpc.cluster.local.has_gpu", lambda: True)
    assert most() == 1 and most(max_processes=3) == 3


def test_clients_do_not_wait_for_servers_that_have_all_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage(name: StageName) -> Stage:
        return Stage(name, 0, (), (Task(name, 0, "0", "", ()),), (), StageResources())

    run = Run(Layout(tmp_path), RunConfig())
    monkeypatch.setattr(
        Run, "plan", lambda self, iteration: SimpleNamespace(policy_of=lambda name: PolicyConfig())
    )
    cluster = LocalCluster(run, NoDisplay(Console()))
    scripts = {"serve": "import sys; sys.exit('the GPU is full')", "generate": "import time; time.sleep(600)"}
    monkeypatch.setattr(
        local, "worker_command", lambda run_dir, stage, index: [sys.executable, "-c", scripts[stage.name]]
    )
    stages = [stage("serve"), stage("generate")]
    with pytest.raises(
        Incomplete, match=r"serve 0 of iteration 0 ended with exit code 1(.|\n)*the GPU is full"
    ):
        cluster.run_graph(stages, [TaskStatus(s.name, 0, "ready", "") for s in stages])


@pytest.mark.parametrize(
    ("missing", "runs", "closed"),
    [
        (["merge-0", "advance-0"], ["merge-0"], False),  # a regrade has changed what the teacher got right
        (["train-0", "advance-0"], ["train-0"], False),
        (["train-0", "evaluate-1", "advance-0"], ["train-0", "evaluate-1"], False),
        (["evaluate-1", "advance-0"], ["evaluate-1", "advance-0"], True),
        (["merge-0", "train-0", "evaluate-0", "evaluate-1", "advance-0"], None, True),
        (["advance-0"], None, True),
        (["train-0"], None, False),
    ],
)
def test_what_rests_on_finished_work_waits_for_a_new_look_where_work_before_it_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str], runs: list[str] | None, closed: bool
) -> None:
    assert play(tmp_path, monkeypatch, missing, PolicyConfig()) is closed
    assert sorted((tmp_path / "started").read_text().split()) == sorted(runs or missing)


def test_a_task_that_a_policy_does_without_keeps_nothing_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ["generate-1", "train-0", "evaluate-0", "evaluate-1", "advance-0"]
    assert play(
        tmp_path, monkeypatch, missing, PolicyConfig(kind="min_fraction", value=0.5), fails="generate-1"
    )
    assert sorted((tmp_path / "started").read_text().split()) == sorted(missing)


def test_a_task_that_nothing_waits_for_any_more_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ["generate-1", "evaluate-1", "advance-0"]
    policy = PolicyConfig(kind="min_fraction", value=0.5)
    assert play(tmp_path, monkeypatch, missing, policy, given_up=[("generate", 1)])
    assert sorted((tmp_path / "started").read_text().split()) == ["advance-0", "evaluate-1"]


def play(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: list[str],
    policy: PolicyConfig,
    fails: str = "",
    given_up: Sequence[tuple[str, int]] = (),
) -> bool:
    """Runs what is missing of an iteration whose tasks note that they have started, and are stale if they were done once."""
    monkeypatch.setattr(Run, "plan", lambda self, iteration: SimpleNamespace(policy_of=lambda name: policy))
    words = (
        "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + ' '); sys.exit(sys.argv[2] == sys.argv[3])"
    )
    command = [sys.executable, "-c", words, str(tmp_path / "started")]
    monkeypatch.setattr(
        local, "worker_command", lambda run_dir, stage, index: [*command, f"{stage.name}-{index}", fails]
    )
    order: list[tuple[StageName, int]] = [("generate", 2), ("merge", 1), ("train", 1), ("evaluate", 2)]
    stages, before = [], ()
    for name, tasks in [*order, ("advance", 1)]:
        parts = tuple(Task(name, index, str(index), "", ()) for index in range(tasks))
        stages.append(Stage(name, 0, before, parts, (), StageResources()))
        before = (name,)
    statuses = [
        TaskStatus(stage.name, task.index, "ready" if f"{stage.name}-{task.index}" in missing else "done", "")
        for stage in stages
        for task in stage.tasks
    ]
    cluster = LocalCluster(Run(Layout(tmp_path), RunConfig()), NoDisplay(Console()))
    return cluster.run_graph(stages, statuses, given_up)


@pytest.mark.parametrize(
    ("engine", "stage", "warm"),
    [
        ("transformers", "generate", True),
        ("transformers", "evaluate", True),
        ("vllm", "generate", False),
        ("openai", "generate", False),
        ("vllm", "train", True),
        ("vllm", "merge", True),
        ("transformers", "serve", False),
        ("transformers", "a_stage_of_my_own", False),
    ],
)
def test_only_tasks_that_change_no_library_are_copies(
    tmp_path: Path, engine: str, stage: str, warm: bool
) -> None:
    settings = {"generate": {"engine": {"name": engine}}, "evaluate": {"engine": {"name": engine}}}
    run = Run(Layout(tmp_path), RunConfig.model_validate(settings))
    assert local.suits_warm_start(run, stage) is warm


def test_no_warm_process_where_there_is_a_gpu_or_it_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"generate": {"engine": {"name": "transformers"}}}
    on = RunConfig.model_validate(settings | {"cluster": {"warm_start": True}})
    monkeypatch.setattr(local, "has_gpu", lambda: True)
    assert local.warm_server(Run(Layout(tmp_path), on), {"generate"}) is None
    monkeypatch.setattr(local, "has_gpu", lambda: False)
    off = RunConfig.model_validate(settings | {"cluster": {"warm_start": False}})
    assert local.warm_server(Run(Layout(tmp_path), off), {"generate"}) is None
    # What is still to be done loads no model in this package: an own engine writes, and the run ends behind it.
    own = RunConfig.model_validate(
        {"generate": {"engine": {"name": "my.engine:Mine"}}, "cluster": {"warm_start": True}}
    )
    monkeypatch.setattr(local, "WarmServer", lambda *words: "warm")
    run = Run(Layout(tmp_path), own)
    assert local.warm_server(run, {"generate", "advance"}) is None
    assert local.warm_server(run, {"generate", "evaluate"}) == "warm"
