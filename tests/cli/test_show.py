"""`undo-hpc show`: the rows that are asked for, each with the prompt that its model read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.observe.synthetic import RunBuilder
from undo_hpc.cli import main
from undo_hpc.observe.attempts import PromptReader, answered, fixed_since
from undo_hpc.observe.report.collect import collect
from undo_hpc.observe.report.markdown import summary
from undo_hpc.pipeline.run import Run, open_run
from undo_hpc.storage.shards import encode_sealed, read_rows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return RunBuilder(
        tmp_path_factory.mktemp("show") / "run", problems=20, sets=["display.report=false"]
    ).play(2)


def rows(run: Run, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    assert main(["show", str(run.layout.root), "--json", "-n", "0", *words]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_students_answers_come_first_and_can_be_chosen(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = rows(run, capsys)
    assert {(row["stage"], row["iteration"]) for row in everything} == {("evaluate", 1)}
    wrong = rows(run, capsys, "--wrong", "--on", "gsm")
    assert wrong == [r for r in everything if r["verdict"] != "correct" and r["set"] == "gsm"] != []
    one = wrong[0]
    assert one in rows(run, capsys, "--id", str(one["problem_id"])[:8])
    assert one in rows(run, capsys, "--id", str(one["idx"]))
    assert (
        rows(run, capsys, "--find", "NO. 3)")
        == [r for r in everything if "no. 3)" in str(r["problem"])]
        != []
    )


def test_what_was_fixed_stands_beside_the_mistake(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = fixed_since(run, 1)
    fixed = rows(run, capsys, "--fixed")
    assert fixed and all(row["verdict"] == "correct" for row in fixed)
    for row in fixed:
        mistake = before[str(row["set"]), str(row["problem_id"])]
        assert row["before"] == mistake.attempt.text and mistake.attempt.verdict != "correct"
    first = rows(run, capsys, "--fixed", "--iteration", "0")
    assert len(first) < len(rows(run, capsys, "--iteration", "0")), (
        "iteration 0 is compared with the untrained student"
    )


def test_the_prompt_is_what_the_model_read(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    refined = rows(run, capsys, "--stage", "generate")[0]
    prompt = str(refined["prompt"])
    assert prompt.startswith("<|user|>") and prompt.endswith("<|assistant|>"), (
        "the chat template is around it"
    )
    target = next(
        r
        for r in read_rows(run.layout.iteration(1).targets_file(0))
        if r["problem_id"] == refined["problem_id"]
    )
    assert target["rationale"] in prompt and target["student_answer"] in prompt
    learned = rows(run, capsys, "--stage", "merge")[0]
    assert str(learned["problem"]) in str(learned["prompt"]) and "boxed" in str(learned["text"])


def test_changed_templates_are_told(run: Run) -> None:
    from dataclasses import replace

    row = next(answered(run, "evaluate", 1))
    other = replace(row, attempt=replace(row.attempt, prompt_sha="0" * 16))
    assert "were changed since" in PromptReader(run).as_read(other)[1]
    assert PromptReader(run).as_read(row)[1] == ""


def test_the_rows_of_a_shard_at_work_are_shown(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(run.layout.root, tmp_path / "run"))
    at = run.layout.iteration(1)
    shard = root / run.layout.relative(at.shard("generate", 0))
    lines = shard.read_text().splitlines(keepends=True)
    shard.unlink()
    (root / run.layout.relative(at.manifest_of(at.shard("generate", 0)))).unlink()
    folder = shard.with_name("shard-00000.parts")
    folder.mkdir()
    (folder / "000-aaaaaaaa-1.jsonl").write_text(lines[0] + lines[1][:20])
    changed = encode_sealed(json.loads(lines[1])).replace(b'"idx":', b'"idx":1')
    (folder / "001-aaaaaaaa-2.jsonl").write_bytes(lines[0].encode() + changed)
    assert main(["show", str(root), "--stage", "generate", "--json", "-n", "0"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    mine = [row for row in shown if row["text"] == json.loads(lines[0])["text"]]
    assert len(mine) == 1 and len(shown) < len(rows(run, capsys, "--stage", "generate"))


def test_of_several_answers_more_than_half_must_be_right_as_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["evaluate.samples=3", "evaluate.sampling.temperature=1", "display.report=false"]
    run = RunBuilder(tmp_path / "run", problems=20, sets=sets).play(2)
    counted = {flips.name: flips.fixed for flips in collect(run).flips if flips.after == 1}
    shown = {(row["set"], row["problem_id"]) for row in rows(run, capsys, "--fixed")}
    assert {name: sum(name == where for where, _ in shown) for name in counted} == counted
    assert "more than half" in summary(collect(run))
    partly = [e for e in collect(run).examples if e.old.unstable and 2 * e.old.score > 1]
    assert partly and all(e.outcome == "broken" for e in partly)


def test_answers_that_a_policy_gave_up_and_that_came_later_are_fixed_for_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = "cluster.policy={evaluate: {kind: min_fraction, value: 0.5}}"
    sets = ["display.report=false", "evaluate.problems_per_task=10", policy]
    made = RunBuilder(tmp_path / "run", problems=40, sets=sets)
    made.play(1)
    plan = made.plan(1)
    late = next(k for k, parts in enumerate(plan.evaluate) if parts[0].problem_set == "train")
    in_time = [k for k in range(len(plan.evaluate)) if k != late]
    made.generate(plan)
    made.single(plan, "merge")
    made.train(plan)
    made.evaluate(plan, skill=0.9, only=in_time)
    made.single(plan, "advance")
    before = rows(made.run, capsys, "--fixed")
    made.evaluate(plan, skill=0.9, only=[late])
    after = rows(made.run, capsys, "--fixed")
    assert after == before and len(rows(made.run, capsys, "--on", "train")) > 0
    counted = {flips.name: flips.fixed for flips in collect(made.run).flips if flips.after == 1}
    assert sum(row["set"] == "train" for row in after) == counted["train"]


@pytest.mark.parametrize(
    "name",
    ["evaluate/validation/shard-00000.jsonl", "targets/shard-00000.jsonl", "generate/shard-00000.jsonl"],
)
def test_a_finished_row_that_has_changed_is_not_shown(
    run: Run, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(run.layout.root, tmp_path / "run"))
    path = root / "iter_001" / name
    path.write_bytes(path.read_bytes().replace(b'"idx":', b'"idx":1', 1))
    for words in (
        ["show", "--stage", "evaluate" if "evaluate" in name else "generate"],
        ["export", "--format", "preference"],
    ):
        assert main([words[0], str(root), *words[1:]]) in (2, 3)
        told = " ".join(capsys.readouterr().err.split())
        assert name in told and ("changed" in told or "bytes" in told)
    notes = " ".join(collect(open_run(root)).notes)
    assert name in notes


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_on_a_terminal_of_any_width(
    run: Run, width: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert main(["show", str(run.layout.root), "--fixed", "-n", "1"]) == 0
    told = capsys.readouterr().out
    assert "prompt as the model reads it" in " ".join(told.split()) and "-n 0" in told
    assert max(map(len, told.splitlines()[:-1])) <= max(45, int(width))


def test_what_there_is_not_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(run.layout.root)
    for words, said in (
        (["--on", "nothing"], "gsm, hard, validation"),
        (["--stage", "generate", "--on", "gsm"], "baseline and evaluate"),
        (["--iteration", "9"], "evaluate 1"),
        (["--fixed", "--stage", "merge"], "leave --stage out"),
    ):
        assert main(["show", root, *words]) == 2
        assert said in capsys.readouterr().err
    assert main(["show", root, "--find", "no such words"]) == 0
    assert "0 of 0 that match" in capsys.readouterr().out
