"""THE table of stages: all that depends on what a stage is derives from it."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import pytest

import undo_hpc
from tests.conftest import REPO
from undo_hpc.cluster.profile import Profile, StageProfile
from undo_hpc.config.schema import RunConfig, StageResources
from undo_hpc.config.stages import RESERVED, STAGE_NAME
from undo_hpc.pipeline.layout import Layout
from undo_hpc.pipeline.plan import IterationPlan, build_graph, plan_iteration
from undo_hpc.pipeline.stages import STAGES, followers, ordered_own_stages, resources_of, spec_of

PACKAGE = Path(undo_hpc.__file__).parent


def graph(config: RunConfig, iteration: int = 0) -> dict[str, tuple[str, ...]]:
    plan = plan_iteration(
        config, iteration, problems=10, sets={"train": 10, "validation": 3}, train_problems=10
    )
    return {stage.name: stage.after for stage in build_graph(config, Layout(Path("/r")), plan)}


def test_the_graph_follows_the_table() -> None:
    served = {"engine": {"name": "openai"}, "service": 2}
    found = graph(RunConfig.model_validate({"generate": served}))
    scoring = {"sample", "score"}
    assert list(found) == [
        name for name in STAGES if name not in scoring | {"canary", "release", "likelihood"}
    ]
    for name, after in found.items():
        assert set(after) == set(STAGES[name].after) - scoring - {"likelihood"}, name
    chosen = {"generate": {"samples": 4}, "method": {"select": "likeliest", "keep": 1}}
    found = graph(RunConfig.model_validate(chosen))
    assert found["likelihood"] == ("generate",) and found["merge"] == ("generate", "likelihood")
    config = RunConfig.model_validate({"method": {"preset": "undo_on_policy"}})
    assert not scoring & graph(config).keys(), "the first iteration is a start on text"
    for name in ("sample", "score", "train"):
        assert set(graph(config, 1)[name]) == set(STAGES[name].after), name
    soft = graph(RunConfig.model_validate({"method": {"preset": "soft"}}))
    assert soft["score"] == ("merge",) and soft["train"] == ("merge", "score")


def test_a_plan_of_text_reads_as_before() -> None:
    plan = plan_iteration(RunConfig(), 0, problems=10, sets={"train": 10})
    assert not {"sample", "score"} & plan.to_dict().keys()
    assert not [key for key in plan.workload if key.startswith("score")]
    config = RunConfig.model_validate({"method": {"preset": "on_policy"}, "distill": {"shards": 3}})
    plan = plan_iteration(config, 1, problems=0, sets={"train": 10}, train_problems=10)
    assert IterationPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert plan.score == 3 and sum(part.stop - part.start for part in plan.slices("sample")) == 10


def test_every_stage_has_its_module() -> None:
    for spec in STAGES.values():
        assert callable(importlib.import_module(spec.module).run_stage)
        assert STAGE_NAME.fullmatch(spec.name)
        assert set(spec.after) <= set(STAGES) and set(spec.after) <= set(
            list(STAGES)[: list(STAGES).index(spec.name)]
        )


def test_followers() -> None:
    assert followers("generate") == ("likelihood", "merge", "score", "train", "evaluate", "advance")
    assert followers("evaluate") == followers("baseline") == ("advance",)
    assert followers("advance") == ()


@pytest.mark.parametrize("name", STAGES)
def test_the_batch_template_of_each_stage(name: str) -> None:
    text = (REPO / "slurm" / f"{name}.sbatch").read_text()
    spec = STAGES[name]
    assert f"undo_task {name} " in text
    assert ("--array=" in text) == spec.array, "the usage says --array for arrays alone"
    assert bool(re.search(r"^#SBATCH --(gres|gpus)", text, re.MULTILINE)) == spec.gpu
    assert {path.stem for path in (REPO / "slurm").glob("*.sbatch")} == set(STAGES)


def test_no_other_list_of_stages() -> None:
    """A tuple, list or set of three names of stages in the code is a second table."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path == PACKAGE / "config" / "stages.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            items = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else ()
            names = [i.value for i in items if isinstance(i, ast.Constant) and i.value in STAGES]
            if len(names) >= 3:
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {names}")
    assert not found


OWN = {
    "last": {"after": ["count", "evaluate"]},
    "count": {"after": ["merge"], "tasks": 3},
    "other": {"after": ["baseline", "train"]},
}


def test_own_stages_stand_in_an_order_that_can_run_and_advance_waits_for_them() -> None:
    config = RunConfig.model_validate({"stages": OWN})
    assert [name for name, _ in ordered_own_stages(config)] == ["count", "last", "other"]
    found = graph(config)
    seen: set[str] = set()
    for name, after in found.items():
        assert set(after) <= seen, name
        seen.add(name)
    assert list(found)[-1] == "advance" and set(OWN) <= set(found["advance"])
    without = RunConfig.model_validate({"stages": OWN, "evaluate": {"baseline": False}})
    assert graph(without)["other"] == ("train",), "what an iteration does not have is not waited for"


def test_own_stages_have_arrays_paths_and_resources() -> None:
    resources = {
        "count": {"minutes": 5},
        "evaluate": {"minutes": 7, "memory_gb": 2.0},
        "baseline": {"minutes": 9},
    }
    policy = {"count": {"kind": "quorum", "value": 2.0}}
    config = RunConfig.model_validate({"stages": OWN, "cluster": {"resources": resources, "policy": policy}})
    plan = plan_iteration(config, 0, problems=10, sets={"train": 10, "validation": 3})
    stages = {stage.name: stage for stage in build_graph(config, Layout(Path("/r")), plan)}
    count, last = stages["count"], stages["last"]
    assert count.is_array and [task.manifest for task in count.tasks] == [
        f"iter_000/count/task-{k:05d}.manifest.json" for k in range(3)
    ]
    assert not last.is_array and last.tasks[0].manifest == "iter_000/last.manifest.json"
    assert count.resources.minutes == 5 and plan.policy_of("count").value == 2
    assert (resources_of(config, "baseline").minutes, resources_of(config, "baseline").memory_gb) == (9, 2.0)


def test_an_own_stage_gets_a_gpu_only_where_it_says_so() -> None:
    profile = Profile(
        defaults=StageProfile(gpus_per_node=2, partition="gpu"), stages={"a": StageProfile(gpus_per_node=1)}
    )
    assert profile.for_stage("a", StageResources()).gpus_per_node == 1
    assert profile.for_stage("b", StageResources()).gpus_per_node == 0
    assert profile.for_stage("b", StageResources(gpus_per_node=1)).gpus_per_node == 1
    assert not spec_of("b").cooperates


def test_reserved_names_are_those_of_an_iterations_folder() -> None:
    at = Layout(Path("/r")).iteration(0)
    fixed = [name for name in vars(type(at)) if isinstance(vars(type(at))[name], property) and name != "root"]
    taken = {getattr(at, name).name.split(".")[0] for name in fixed} | {
        at.events("x", 0).parent.name,
        at.progress("x", 0).parent.name,
        at.lease("x", 0).parent.name,
    }
    assert taken <= RESERVED
