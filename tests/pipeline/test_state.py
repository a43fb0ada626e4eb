"""States come from evidence: a job's word never makes a task complete."""

from undo_hpc.config.schema import PolicyConfig, StageResources
from undo_hpc.pipeline.plan import Stage, Task
from undo_hpc.pipeline.state import Evidence, combined_digest, derive, enough, unmet
from undo_hpc.storage.manifest import Manifest, Output


def stage(name: str, after: tuple[str, ...], count: int) -> Stage:
    tasks = tuple(Task(name, k, str(k), f"{name}{k}", ()) for k in range(count))  # type: ignore[arg-type]
    return Stage(name, 0, after, tasks, (), StageResources())  # type: ignore[arg-type]


def manifest(
    name: str, index: int, content: str = "a", inputs: dict[str, str] | None = None, **details: object
) -> Manifest:
    return Manifest(name, 0, index, inputs or {}, {f"{name}{index}": Output(content, 1)}, details=details)


STAGES = [stage("generate", (), 3), stage("merge", ("generate",), 1), stage("train", ("merge",), 1)]
SHARDS = [manifest("generate", k) for k in range(3)]
MERGE = manifest("merge", 0, inputs={"generate": combined_digest(SHARDS), "config": "c"})


def states(evidence: list[Manifest], **options: object) -> list[str]:
    found = {(m.stage, m.index): Evidence(m) for m in evidence}
    return [s.state for s in derive(STAGES, found, **options)]  # type: ignore[arg-type]


def test_nothing_there() -> None:
    assert states([]) == ["ready"] * 3 + ["blocked"] * 2


def test_ready_when_the_stage_before_is_complete() -> None:
    assert states(SHARDS) == ["done"] * 3 + ["ready", "blocked"]
    assert states([*SHARDS, MERGE]) == ["done"] * 4 + ["ready"]


def test_a_shard_with_other_content_makes_the_merge_stale() -> None:
    other = [manifest("generate", 0, "b"), *SHARDS[1:]]
    found = derive(STAGES, {(m.stage, m.index): Evidence(m) for m in [*other, MERGE]})
    assert found[3].state == "stale" and "generate has other results" in found[3].why
    assert found[4].state == "blocked"


def test_damage_and_changed_outside_inputs_are_stale() -> None:
    evidence = {("generate", 0): Evidence(SHARDS[0], "generate0 has 3 bytes")}
    assert derive(STAGES, evidence)[0].state == "stale"
    assert states([*SHARDS, MERGE], outside={"config": "another"})[3] == "stale"


def test_a_shard_of_other_targets_is_stale() -> None:
    tasks = tuple(Task("generate", k, str(k), f"generate{k}", (), {"targets": f"t{k}"}) for k in range(2))
    mine = Stage("generate", 0, (), tasks, (), StageResources())
    made = [manifest("generate", k, inputs={"targets": "t0"}) for k in range(2)]
    found = derive([mine], {(m.stage, m.index): Evidence(m) for m in made})
    assert [s.state for s in found] == ["done", "stale"] and "'targets' has changed" in found[1].why


def test_live_jobs_only_tell_waiting_from_forgotten() -> None:
    live = {("generate", 1): ("running", ""), ("merge", 0): ("waiting", "Dependency")}
    assert states(SHARDS[:1], live=live) == ["done", "running", "ready", "waiting", "blocked"]
    assert states(SHARDS, live={("generate", 0): ("running", "")})[0] == "done"


def test_a_policy_lets_the_next_stage_begin_and_stay_done() -> None:
    policies = {"generate": PolicyConfig(kind="min_fraction", value=0.6)}
    assert states(SHARDS[:2], policies=policies) == ["done", "done", "ready", "ready", "blocked"]
    part = manifest("merge", 0, inputs={"generate": combined_digest(SHARDS[:2])}, generate_used=[0, 1])
    assert states([*SHARDS[:2], part], policies=policies)[3] == "done"
    assert states([*SHARDS, part], policies=policies)[3] == "done"


def test_enough() -> None:
    assert enough(PolicyConfig(), 3, 3) and not enough(PolicyConfig(), 2, 3)
    assert enough(PolicyConfig(kind="quorum", value=2), 2, 3) and not enough(
        PolicyConfig(kind="quorum", value=2), 1, 3
    )


def test_an_iteration_is_complete_while_all_of_its_evidence_stands() -> None:
    def needed(evidence: list[Manifest], **policies: PolicyConfig) -> set[str]:
        found = {(m.stage, m.index): Evidence(m) for m in evidence}
        return set(unmet(STAGES, policies, derive(STAGES, found, policies=policies)))

    train = manifest("train", 0, inputs={"merge": combined_digest([MERGE])})
    assert needed([*SHARDS, MERGE, train]) == set()
    assert needed([*SHARDS, MERGE]) == {"train"}
    assert needed([*SHARDS[1:], MERGE, train]) == {"generate", "merge"}  # somebody took a finished shard away
    assert needed([*SHARDS, train]) == {"merge", "train"}
    part = manifest("merge", 0, inputs={"generate": combined_digest(SHARDS[:2])}, generate_used=[0, 1])
    train = manifest("train", 0, inputs={"merge": combined_digest([part])})
    assert needed([*SHARDS[:2], part, train], generate=PolicyConfig(kind="quorum", value=2)) == set()
