"""Publishing against a small Hub on loopback, through the real huggingface_hub."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.hub.server import HubServer, Repo
from undo_hpc.cli import main
from undo_hpc.config.load import override
from undo_hpc.config.schema import RunConfig
from undo_hpc.data.cards import provenance, rationale_licence
from undo_hpc.errors import ConfigError
from undo_hpc.hub.auto import due, maybe_push
from undo_hpc.hub.cards import command
from undo_hpc.hub.push import HubError, push
from undo_hpc.pipeline.run import Run
from undo_hpc.storage.events import read_events

Publishable = Callable[..., Run]


def front_matter(data: bytes) -> dict[str, object]:
    found = yaml.safe_load(data.decode().split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_a_run_is_published_with_data_predictions_student_and_cards(
    publishable: Publishable, server: HubServer
) -> None:
    done = push(publishable())
    data, student = server.repos["datasets/me/data"], server.repos["models/me/student"]
    assert data.private and student.private
    assert {"README.md", "data/iteration_000/distilled-00000.parquet", "data/iteration_001/distilled-00000.parquet",
            "predictions/iteration_000.parquet", "predictions/iteration_001.parquet", "chat/iteration_001.jsonl"} <= set(data.files)  # fmt: skip
    assert data.commits == ["Distilled set of iteration 0", "Distilled set of iteration 1"]
    assert set(student.files) == {"README.md", "config.json", "model.safetensors"}
    assert done.sent == len(data.files) + len(student.files)
    table = pq.read_table(io.BytesIO(data.files["predictions/iteration_001.parquet"]))
    assert {"problem", "teacher_solution", "student_solution", "gt"} <= set(table.column_names)
    rows = pq.read_table(io.BytesIO(data.files["data/iteration_000/distilled-00000.parquet"]))
    assert {"problem", "teacher_solution", "gt", "idx"} <= set(rows.column_names)
    assert (
        json.loads(data.files["chat/iteration_001.jsonl"].splitlines()[0])["messages"][-1]["role"]
        == "assistant"
    )


def test_cards_say_what_a_reader_needs(publishable: Publishable, server: HubServer) -> None:
    run = publishable()
    push(run)
    card = server.repos["datasets/me/data"].files["README.md"]
    head = front_matter(card)
    assert head["license"] == "cc-by-4.0"
    names = [c["config_name"] for c in head["configs"]]  # type: ignore[index, attr-defined]
    assert names == ["iteration_000", "iteration_001", "predictions_000", "predictions_001"]
    assert sum(bool(c.get("default")) for c in head["configs"]) == 1  # type: ignore[attr-defined]
    for words in ("`teacher_solution`", "Licences", "GSM: MIT", "launchers/run_iteration.py"):
        assert words in card.decode()
    student = server.repos["models/me/student"].files["README.md"].decode()
    best = json.loads(run.layout.iteration(1).metrics.read_text())["decision"]["best_iteration"]
    metrics = json.loads(run.layout.iteration(best).metrics.read_text())
    low = f"{100 * metrics['sets']['validation']['low']:.1f}"
    assert (
        f"| validation | {metrics['sets']['validation']['n']} |" in student
        and low in student
        and "me/data" in student
    )
    assert front_matter(student.encode())["datasets"] == ["me/data"]


@pytest.mark.parametrize(
    ("condition", "told", "untold"),
    [
        ("undo", "what the student had made of its last rationale", "control"),
        ("blind", "nothing of the student's attempt", "had made"),
        ("ground_truth", "no teacher wrote them", "org/teacher"),
    ],
)
def test_a_card_claims_no_more_than_was_done(condition: str, told: str, untold: str) -> None:
    config = override(
        RunConfig(),
        [f"method.condition={condition}", "teacher.model=org/teacher", "student.model=org/student"],
    )
    words = provenance(config) + rationale_licence(config)
    assert told in words and untold not in words


def test_the_command_on_a_card_makes_all_iterations(publishable: Publishable) -> None:
    assert "--iterations" not in command(publishable())
    assert command(publishable("iterations=7")).endswith("--iterations 7")


def test_pushing_again_changes_nothing(publishable: Publishable, server: HubServer) -> None:
    run = publishable()
    push(run)
    commits = [list(repo.commits) for repo in server.repos.values()]
    uploads = server.uploads()
    again = push(run)
    assert again.sent == 0 and again.same > 0
    assert [repo.commits for repo in server.repos.values()] == commits and server.uploads() == uploads


def test_an_interrupted_push_continues_and_sends_large_files_once(
    publishable: Publishable, server: HubServer
) -> None:
    run = publishable()
    seen = {"commits": 0}

    def fail_second_commit(method: str, path: str) -> int | None:
        if "/commit/" in path:
            seen["commits"] += 1
            return 400 if seen["commits"] == 2 else None
        return None

    server.fault = fail_second_commit
    with pytest.raises(HubError, match="answered 400"):
        push(run)
    assert server.repos["datasets/me/data"].commits == ["Distilled set of iteration 0"]
    sent = server.uploads()
    server.fault = lambda method, path: None
    push(run)
    assert server.repos["datasets/me/data"].commits == [
        "Distilled set of iteration 0",
        "Distilled set of iteration 1",
    ]
    assert server.uploads() == len(server.lfs), "no large file was sent twice"
    assert server.uploads() > sent


def test_weights_that_the_new_student_lacks_are_taken_away_and_nothing_else(
    publishable: Publishable, server: HubServer
) -> None:
    run = publishable()
    push(run)
    student = server.repos["models/me/student"]
    student.files["theirs.txt"] = b"put there by hand"
    student.files["model-00002.safetensors"] = b"old"
    ledger = json.loads(run.layout.pushed.read_text())
    ledger["files"]["model:me/student"].append("model-00002.safetensors")
    run.layout.pushed.write_text(json.dumps(ledger))
    push(run)
    assert "model-00002.safetensors" not in student.files and "theirs.txt" in student.files


def test_private_things_do_not_go_into_a_public_repository(
    publishable: Publishable, server: HubServer
) -> None:
    server.repos["datasets/me/data"] = Repo(private=False)
    with pytest.raises(HubError, match="public"):
        push(publishable())
    assert not server.repos["datasets/me/data"].files
    push(publishable("hub.private=false"))
    assert server.repos["datasets/me/data"].files and not server.repos["models/me/student"].private


def test_a_public_repository_of_the_data_sets_name_gets_no_private_student(
    publishable: Publishable, server: HubServer
) -> None:
    student = server.repos["models/me/both"] = Repo(private=False)
    with pytest.raises(HubError, match="public"):
        push(publishable("hub.dataset_repo=me/both", "hub.model_repo=me/both"))
    assert not student.files and server.repos["datasets/me/both"].files


@pytest.mark.parametrize(
    ("token", "words"), [("reader", "may not write"), ("nobody", "does not know this token")]
)
def test_a_token_without_rights_is_named_and_not_shown(
    publishable: Publishable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    token: str,
    words: str,
) -> None:
    run = publishable()
    monkeypatch.setenv("HF_TOKEN", token)
    assert main(["push", str(run.layout.root)]) == 3
    said = capsys.readouterr()
    assert words in said.err and "Traceback" not in said.err and token not in said.err.replace("may not", "")


def test_a_token_file_wins_and_no_token_stands_on_disk(
    publishable: Publishable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("writer\n")
    monkeypatch.setenv("HF_TOKEN", "nobody")
    run = publishable(f"hub.token_file={token}")
    push(run)
    held = [path for path in run.layout.root.rglob("*") if path.is_file() and b"Bearer" in path.read_bytes()]
    assert not held
    assert not [p for p in run.layout.root.rglob("*") if p.is_file() and b"writer\n" in p.read_bytes()]


def test_no_token_and_no_repository_are_said_before_anybody_is_asked(
    publishable: Publishable, server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no Hub token"):
        push(publishable())
    with pytest.raises(ConfigError, match="no repository"):
        push(publishable("hub.dataset_repo=''", "hub.model_repo=''"))
    with pytest.raises(ConfigError, match="cannot read"):
        push(publishable(f"hub.token_file={tmp_path / 'absent'}"))
    assert server.requests == []


def test_a_hub_that_is_not_there_or_offline_is_said_in_words(
    publishable: Publishable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    with pytest.raises(HubError, match="cannot be reached"):
        push(publishable("hub.endpoint=http://127.0.0.1:9"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        push(publishable())


def test_off_is_off(publishable: Publishable, server: HubServer) -> None:
    run = publishable()
    assert not maybe_push(run, 1e12, ended=True)
    assert server.requests == []


def test_when_a_push_is_due(publishable: Publishable) -> None:
    run = publishable("hub.push_every_min=20")
    assert due(run, 1e10, ended=False)
    push(run)
    last = json.loads(run.layout.pushed.read_text())["time"]
    assert not due(run, last + 19 * 60, ended=False)
    assert due(run, last + 21 * 60, ended=False)
    assert not due(publishable("hub.push_every_min=0"), 1e10, ended=True)
    assert due(publishable("hub.push_every_min=0", "hub.push_at_end=true"), last + 1, ended=True)


def test_an_automatic_push_arrives_or_fails_without_harm(
    publishable: Publishable, server: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    run = publishable("hub.push_at_end=true")
    server.fault = lambda method, path: 400
    assert not maybe_push(run, 0.0, ended=True)
    assert "the run continues" in caplog.messages[-1]
    assert [e["kind"] for e in read_events(run.layout.events)][-1] == "push_failed"
    server.fault = lambda method, path: None
    assert maybe_push(run, 0.0, ended=True), caplog.text
    assert server.repos["datasets/me/data"].files


def test_an_offline_node_leaves_the_push_for_later(
    publishable: Publishable,
    server: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = publishable("hub.push_at_end=true")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not maybe_push(run, 0.0, ended=True)
    assert "undo-hpc push" in caplog.messages[-1] and server.requests == []


def test_dry_run_asks_nobody(
    publishable: Publishable, server: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(publishable().layout.root), "--dry-run"]) == 0
    assert "data/iteration_001/distilled-00000.parquet" in capsys.readouterr().out
    assert server.requests == []
