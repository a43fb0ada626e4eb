"""Grading stored answers again: what it tells, what it writes, and that evidence stays whole."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checkers.harsh import Harsh
from tests.observe.synthetic import RunBuilder
from undo_hpc.campaign.definition import REPEATED
from undo_hpc.checkers.judge import Judge
from undo_hpc.cli import main
from undo_hpc.config.schema import JudgeConfig
from undo_hpc.control.finished import all_metrics
from undo_hpc.control.live import LiveTasks
from undo_hpc.control.planning import current_state
from undo_hpc.control.regrade import _renewed, regrade
from undo_hpc.errors import ConfigError, LeaseError
from undo_hpc.grading import CHECKER_VERSION, GradeItem
from undo_hpc.observe.outcome import warnings_of
from undo_hpc.observe.status import collect_status
from undo_hpc.pipeline.evidence import gather_evidence
from undo_hpc.pipeline.plan import build_graph
from undo_hpc.pipeline.results import find_metrics, read_metrics
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.pipeline.state import combined_digest
from undo_hpc.records import SPLITS, Attempt, Grade, Problem
from undo_hpc.stages.checker import Judged, OwnChecker
from undo_hpc.stages.verdicts import checker_of_tasks, require_one_checker
from undo_hpc.storage.atomic import write_bytes
from undo_hpc.storage.lease import Lease
from undo_hpc.storage.manifest import Manifest, describe_output, read_manifest, write_manifest


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("regrade") / "run"
    RunBuilder(root, problems=20, sets=["display.report=false", "method.errors_from=both"]).play(2)
    return root


@pytest.fixture
def run(played: Path, tmp_path: Path) -> Run:
    return open_run(Path(shutil.copytree(played, tmp_path / "run")))


def spoil(run: Run, stage: str, iteration: int, verdict: str) -> str:
    """Gives the first answer of a stage a verdict that the checker would not give, as an older checker may have."""
    plan = run.plan(iteration)
    assert plan is not None
    task = next(s for s in build_graph(run.config, run.layout, plan) if s.name == stage).tasks[0]
    name = task.outputs[0]
    path, manifest = run.layout.root / name, read_manifest(run.layout.root / task.manifest)
    assert manifest is not None
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    row = next(r for r in rows if (r["verdict"] == "correct") != (verdict == "correct"))
    row["verdict"] = verdict
    path.write_text("".join(json.dumps(r, separators=(",", ":"), ensure_ascii=False) + "\n" for r in rows))
    outputs = manifest.outputs | {name: describe_output(path, len(rows))}
    write_manifest(run.layout.root / task.manifest, Manifest(**(manifest.__dict__ | {"outputs": outputs})))
    return name


def test_the_present_checker_agrees_with_itself(run: Run) -> None:
    done = regrade(run)
    assert done.graded > 100 and done.changes == [] and done.skipped == 0


def test_by_default_it_tells_and_writes_nothing(
    run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = spoil(run, "evaluate", 1, "wrong")
    before = {p: p.read_bytes() for p in run.layout.root.rglob("*") if p.is_file()}
    assert (
        main(
            ["regrade", str(run.layout.root), "--changes", str(tmp_path / "changes.jsonl"), "--workers", "1"]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "1 verdict differs" in out and "nothing is written" in out and "advance of iteration 1" in out
    (change,) = [json.loads(line) for line in (tmp_path / "changes.jsonl").read_text().splitlines()]
    assert (change["shard"], change["before"], change["after"]) == (name, "wrong", "correct")
    assert {p: p.read_bytes() for p in run.layout.root.rglob("*") if p.is_file()} == before


class _Undecided:
    """Decides nothing."""

    def grade_many(self, items: Iterable[GradeItem]) -> list[Grade]:
        return [Grade("unparsed", item.prediction, "rule") for item in items]


def test_verdicts_of_a_judge_that_cannot_be_asked_stand(
    run: Run, played: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no verdict that its server is down: all that it has decided would become undecided, and later iterations be put aside."""
    settings = {"base_url": "http://127.0.0.1:9/v1", "max_retries": 1}
    judge = Judge(_Undecided(), JudgeConfig.model_validate({"model": "judge", "openai": settings}))
    monkeypatch.setattr(
        "undo_hpc.control.regrade.checker_of", lambda config, workers: Judged(OwnChecker(_Undecided()), judge)
    )
    done = regrade(run, apply=True)
    assert done.graded > 100 and done.changes == [] and done.late > 0
    for path in played.rglob("shard-*.jsonl"):
        assert (run.layout.root / path.relative_to(played)).read_bytes() == path.read_bytes()


def test_apply_writes_verdicts_and_evidence_stays_whole(run: Run, played: Path) -> None:
    name = spoil(run, "generate", 1, "correct")
    regrade(run, apply=True)
    plan = run.plan(1)
    assert plan is not None
    stages = build_graph(run.config, run.layout, plan)
    assert all(e.problem == "" for e in gather_evidence(run.layout.root, stages).values()), (
        "every manifest matches its outputs"
    )
    assert (run.layout.root / name).read_bytes() == (played / name).read_bytes(), (
        "flags and answers follow the verdict"
    )
    manifest, before = (
        read_manifest(root / name.replace(".jsonl", ".manifest.json")) for root in (run.layout.root, played)
    )
    assert manifest is not None and before is not None
    assert (manifest.counts, manifest.digest) == (before.counts, before.digest)
    assert regrade(run).changes == []


def test_what_rests_on_other_verdicts_is_stale(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("undo_hpc.stages.checker.Checker", Harsh)
    assert main(["regrade", str(run.layout.root), "--apply", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "merge of iteration 0" in out and "launchers/run_iteration.py" in out
    states = {s.name: s.states for s in collect_status(run, live=LiveTasks()).stages}
    assert states["generate"] == {"done": 2} and states["merge"] == {"stale": 1}
    manifest = read_manifest(run.layout.iteration(0).root / "generate" / "shard-00000.manifest.json")
    assert manifest is not None and (manifest.counts["correct"], manifest.counts["solved"]) == (0, 0)
    assert manifest.counts["new_tokens"] > 0, "what it cost is kept"


def test_where_no_verdict_changes_manifests_and_metrics_name_the_new_checker(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs of two versions could not be compared for ever: metrics kept the name of the old checker, and nothing was made again. And
    times tell no order: the clock of the node that wrote a manifest may be ahead."""
    path = run.layout.iteration(1).root / "evaluate" / "task-00000.manifest.json"
    manifest = read_manifest(path)
    assert manifest is not None
    write_manifest(path, replace(manifest, finished=time.time() + 1e6))
    monkeypatch.setattr("undo_hpc.stages.verdicts.CHECKER_VERSION", "another")
    assert regrade(run, apply=True).changes == []
    assert [read_metrics(run, k)["checker"] for k in range(2)] == ["another"] * 2
    plan = run.plan(1)
    assert plan is not None
    stages = {stage.name: stage for stage in build_graph(run.config, run.layout, plan)}
    tasks = [read_manifest(run.layout.root / task.manifest) for task in stages["evaluate"].tasks]
    assert checker_of_tasks(run, 1, filter(None, tasks)) == "another"
    require_one_checker(run, 1, "another")
    assert len(all_metrics(run)) == 2 and current_state(run).iteration == 2, "nothing is made again"


@pytest.mark.parametrize("iteration", [0, 1])
@pytest.mark.parametrize("checker", ["9.9", "of another length"])
def test_a_kill_before_the_metrics_name_the_new_checker_blocks_nothing(
    run: Run, iteration: int, checker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics and their manifest cannot be written at once; later iterations rest on the metrics, so that they are not counted again."""
    monkeypatch.setattr("undo_hpc.stages.verdicts.CHECKER_VERSION", checker)

    def killed(path: Path, data: bytes | Iterable[bytes]) -> None:
        if path == run.layout.iteration(iteration).metrics:
            raise KeyboardInterrupt
        write_bytes(path, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("undo_hpc.control.regrade.write_bytes", killed)
        regrade(run, apply=True)
    assert not find_metrics(run, iteration), "they are not what the manifest says, and not believed"
    assert regrade(run, apply=True).changes == []
    assert [read_metrics(run, k)["checker"] for k in range(2)] == [checker] * 2
    assert len(all_metrics(run)) == 2 and current_state(run).iteration == 2, "nothing is made again"
    damaged = run.layout.iteration(iteration).metrics
    damaged.write_bytes(damaged.read_bytes().replace(b'"correct": ', b'"correct": 1', 1))
    monkeypatch.setattr("undo_hpc.stages.verdicts.CHECKER_VERSION", "newest")
    regrade(run, apply=True)
    assert not find_metrics(run, iteration), "what was damaged is not written again"


def test_metrics_of_damaged_answers_keep_the_name_of_their_checker(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = next(iter((run.layout.iteration(1).root / "evaluate" / "gsm").glob("shard-*.jsonl")))
    shard.write_bytes(shard.read_bytes().replace(b"wrong", b"wronG", 1))
    before = read_metrics(run, 1)["checker"]
    monkeypatch.setattr("undo_hpc.stages.verdicts.CHECKER_VERSION", "another")
    assert regrade(run, apply=True).unread == {1}
    assert [read_metrics(run, k)["checker"] for k in range(2)] == ["another", before]


def test_a_word_of_the_problem_is_no_leak(run: Run) -> None:
    problem = Problem("p", "The student buys 3 pens at 2 dollars. What does he pay?", "6", 0)
    text = "The student pays 3 * 2 = 6 dollars. \\boxed{6}"
    row = Attempt("p", 0, 0, "plain", text, "wrong", "6", "number", "stop", 1, 1, 0, 0.7, flags=("wrong",))
    assert _renewed(run, "generate", row, Grade("correct", "6", "number"), problem).flags == ()
    student = replace(row, verdict="correct", flags=())
    assert _renewed(run, "evaluate", student, Grade("wrong", "6", "number"), problem).flags == ()


def test_solutions_of_the_data_stay_learned_under_another_verdict(run: Run) -> None:
    """Nothing leaves them out for their form (`generate`), and so a checker that judges one otherwise took it out of the distilled set."""
    problem = Problem("p", "What is 2 * 3?", "6", 0)
    row = Attempt("p", 0, 0, "ground_truth", "six", "correct", "6", "number", "stop", 0, 0, 0, 0.0)
    again = _renewed(run, "generate", row, Grade("wrong", "six", "harsh"), problem)
    assert (again.verdict, again.flags) == ("wrong", ())


def test_answers_that_a_campaign_had_repeated_are_graded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers twice, of two checkers after `regrade`: a campaign's page told that they are judged otherwise in other batches."""
    more = [f"stages.repeat={json.dumps(REPEATED)}", "iterations=1", "display.report=false"]
    built = RunBuilder(tmp_path / "run", problems=20, sets=more)
    run, plan = built.run, built.plan(0)
    at, stage = run.layout.iteration(0), built.graph(plan)["repeat"]
    built.generate(plan)
    built.evaluate(plan, "baseline")
    built.single(plan, "merge")
    built.train(plan)
    built.evaluate(plan)
    parts = [part for part in plan.slices("evaluate") if part.problem_set not in SPLITS]
    for part in parts:
        write_bytes(
            at.shard("repeat", part.shard, part.problem_set),
            at.shard("evaluate", part.shard, part.problem_set).read_bytes(),
        )
    shards = [at.shard("repeat", part.shard, part.problem_set) for part in parts]
    outputs = {run.layout.relative(path): describe_output(path) for path in shards}
    trained = read_manifest(at.stage_manifest("train"))
    assert trained is not None
    inputs = {"config": run.config_digest, "train": combined_digest([trained])}
    before = Manifest("repeat", 0, 0, inputs, outputs, {}, {"checker": "older"}, {}, time.time(), time.time())
    write_manifest(run.layout.root / stage.tasks[0].manifest, before)
    with pytest.raises(ConfigError, match="graded by different checkers"):
        built.single(plan, "advance")
    assert regrade(run, apply=True).changes == []
    built.single(plan, "advance")

    monkeypatch.setattr("undo_hpc.stages.checker.Checker", Harsh)
    done = regrade(run, apply=True)
    assert {change.stage for change in done.changes} >= {"evaluate", "repeat"}
    result = {"evaluate": "", "repeat": ""}
    for name in result:
        for part in parts:
            result[name] += at.shard(name, part.shard, part.problem_set).read_text()
    assert result["evaluate"] == result["repeat"]
    stages = build_graph(run.config, run.layout, plan)
    assert all(e.problem == "" for e in gather_evidence(run.layout.root, stages).values())


def test_a_crash_between_shard_and_manifest_loses_no_answer(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = spoil(run, "generate", 1, "correct")
    rows = len((run.layout.root / name).read_text().splitlines())

    def crash(path: Path, manifest: Manifest) -> None:
        if "regraded" in manifest.details:
            raise KeyboardInterrupt

    monkeypatch.setattr("undo_hpc.control.regrade.write_manifest", crash)
    with pytest.raises(KeyboardInterrupt):
        regrade(run, apply=True)
    parts = run.layout.iteration(1).parts(run.layout.root / name)
    kept = [line for path in parts.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(kept) == rows, "a task that is run again finds all its answers"


def test_apply_needs_the_run_for_itself(run: Run) -> None:
    with (
        Lease(run.layout.iteration(1).lease("evaluate", 0), "evaluate 0"),
        pytest.raises(LeaseError, match="running or queued"),
    ):
        regrade(run, apply=True)
    with Lease(run.layout.lease, "the run"), pytest.raises(LeaseError, match="in use"):
        regrade(run, apply=True)


def test_unfinished_tasks_are_left_alone(run: Run) -> None:
    (run.layout.iteration(1).root / "generate" / "shard-00000.manifest.json").unlink()
    assert regrade(run).skipped == 1


def test_the_next_launch_makes_again_what_an_early_verdict_touched(run: Run) -> None:
    spoil(run, "generate", 0, "correct")
    later = {p.name: p.read_bytes() for p in run.layout.iteration(1).root.iterdir() if p.is_file()}
    done = regrade(run, apply=True)
    assert done.again[-1] == (1, "all stages")
    assert {stage for _, stage in done.again[:-1]} == {"merge", "train", "evaluate", "advance"}, (
        "stages that the run has"
    )
    position = current_state(run)
    assert (position.iteration, position.ended) == (0, None)
    assert [s.stage for s in position.statuses if s.state == "stale"] == ["merge"]
    (aside,) = (run.layout.root / "superseded").iterdir()
    assert {p.name: p.read_bytes() for p in aside.iterdir() if p.is_file()} == later, "nothing is lost"


def test_attempts_of_another_checker_than_the_answers_are_told_until_they_are_graded_again(
    tmp_path: Path,
) -> None:
    """After an update of the program, or a fork: the share of right attempts was silently of two checkers."""
    built = RunBuilder(tmp_path / "run", problems=20, sets=["display.report=false"])
    run = built.play(1)
    plan = run.plan(0)
    assert plan is not None

    def count_again(**checkers: str) -> list[str]:
        for name, stage in built.graph(plan).items():
            for task in stage.tasks if name in ("generate", "evaluate", "baseline") else ():
                manifest = read_manifest(run.layout.root / task.manifest)
                assert manifest is not None
                named = checkers.get(f"{name}_{task.index}", CHECKER_VERSION)
                write_manifest(
                    run.layout.root / task.manifest,
                    replace(manifest, details=manifest.details | {"checker": named}),
                )
        run.layout.iteration(0).stage_manifest("advance").unlink()
        built.single(plan, "advance")
        return warnings_of(read_metrics(run, 0))

    before = count_again()
    told = count_again(generate_0="1.9")
    assert read_metrics(run, 0)["generate"]["checkers"] == ["1.9", CHECKER_VERSION]
    assert any("judged by 1.9 and" in warning for warning in told)
    assert count_again(generate_0="1.9", generate_1="1.9") != before, "all of one, the answers of another"
    assert regrade(run, apply=True).changes == []
    assert "checkers" not in read_metrics(run, 0)["generate"] and warnings_of(read_metrics(run, 0)) == before
