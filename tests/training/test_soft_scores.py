"""Scores stand beside the tokens that they are of, under packing, padding, several ranks and a resumed training; others are refused."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import tiny_student
from tests.training.conftest import Moment, Trainings, metrics, same_bits, weights
from undo_hpc.config.schema import RunConfig
from undo_hpc.errors import DataError
from undo_hpc.storage.scores import Block, ScoredText, binary_of, ids_digest, sample_key, text_key
from undo_hpc.storage.shards import dump_rows, pack_ids
from undo_hpc.training import student
from undo_hpc.training.batches import Batcher
from undo_hpc.training.encoding import (
    EncodedSet,
    Encoder,
    encode_spec,
    encoded_rows,
    load_encoded,
    read_rows,
    save_encoded,
)
from undo_hpc.training.packing import StepPlan
from undo_hpc.training.soft_scores import SoftScores
from undo_hpc.training.spec import TrainSpec

K = 6


def settings(signal_name: str = "soft", **changes: Any) -> dict[str, Any]:
    config = RunConfig.model_validate({"distill": {"k": K, **changes}})
    return config.distill.model_dump(exclude={"engine", "server", "shards", "tokens_per_second"}) | {
        "signal": signal_name
    }


def make_block(answer: list[int], seed: int) -> Block:
    """A teacher that finds the answer's token likeliest. Its other tokens are all different, and every value tells its place."""
    n, rng = len(answer), np.random.default_rng(seed)
    ids = np.stack(
        [
            np.concatenate([[token], rng.permutation([i for i in range(300) if i != token])[: K - 1]])
            for token in answer
        ]
    )
    own = (-0.2 - rng.random(n) / 10).astype(np.float16)
    others = np.log(np.full((n, K - 1), 0.02)).astype(np.float16)
    tail = np.log(1 - np.exp(own.astype(float)) - 0.02 * (K - 1)).astype(np.float16)
    return Block(
        ids.astype(np.int32), np.concatenate([own[:, None], others], 1), own, tail, np.zeros(n, np.float16)
    )


def write_scores(path: Path, texts: list[tuple[ScoredText, Block]]) -> str:
    rows, at = [], 0
    for text, block in texts:
        rows.append(replace(text, n=len(block.own), at=at))
        at += len(block.to_bytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dump_rows([row.to_dict() for row in rows]))
    binary_of(path).write_bytes(b"".join(block.to_bytes() for _, block in texts))
    return str(path)


def score_texts(spec: TrainSpec, *, but: int = 0) -> list[tuple[ScoredText, Block]]:
    """Scores of a spec's rows; the last `but` of them have none."""
    rows = read_rows(spec.data, "iteration", "attempt")
    encoder, found = Encoder(student.load_tokenizer(spec), spec), []
    for number, (row, encoded) in enumerate(encoded_rows(rows[: len(rows) - but], encoder, spec.config)):
        assert not isinstance(encoded, str)
        key = text_key(row["id"], row["iteration"], row["attempt"])
        found.append((ScoredText(key, 0, ids_digest(encoded[1])), make_block(encoded[1], number)))
    return found


def soft_spec(trainings: Trainings, name: str = "", *, but: int = 0, **changes: Any) -> TrainSpec:
    spec = trainings.spec(name, **changes)
    path = Path(spec.work_dir).parent / "scores" / "shard-0.jsonl"
    return replace(spec, scores=[write_scores(path, score_texts(spec, but=but))], distill=settings())


def encoded(spec: TrainSpec) -> EncodedSet:
    return encode_spec(spec, student.load_tokenizer(spec))


@pytest.mark.parametrize(("packing", "attention"), [(True, "varlen"), (False, "sdpa")])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_scores_stand_beside_their_tokens(
    trainings: Trainings, packing: bool, attention: str, ranks: int
) -> None:
    spec = soft_spec(trainings, packing=packing, attention=attention, micro_batch_tokens=150)
    data, scores = encoded(spec), SoftScores(spec)
    plan = StepPlan(data.lengths, budget=600, epochs=1, max_steps=0, seed=1)
    seen = 0
    for step in plan.steps(0):
        weight = 0.0
        for rank in range(ranks):
            batcher = Batcher(data, spec.config, rank=rank, ranks=ranks, attention=attention, pad_token=0,
                              device=torch.device("cpu"), scores=scores)  # fmt: skip
            for batch in batcher.micro_batches(step):
                assert batch.scored is not None
                real = batch.targets != -100
                assert (batch.scored.ids[real, 0] == batch.targets[real]).all()
                assert (batch.scored.divergence[~real] == 0).all() and (
                    batch.scored.cross_entropy[~real] == 0
                ).all()
                blocks = [scores._scores.block(str(data.keys[i])) for i in batch.examples]  # type: ignore[index]
                own = np.concatenate([block.own for block in blocks]) if blocks else np.zeros(0)
                assert batch.scored.own[real].tolist() == own.astype(np.float32).tolist()
                weight += float((batch.scored.divergence + batch.scored.cross_entropy).sum())
                seen += len(batch.examples)
        assert weight == pytest.approx(batcher.targets(step))  # every target counts once, over all ranks
    assert seen == len(data)


def test_the_set_on_disk_keeps_the_keys(trainings: Trainings, tmp_path: Path) -> None:
    data = encoded(soft_spec(trainings, but=2))
    assert {reason: len(ids) for reason, ids in data.left_out.items()} == {
        "the teacher gave no scores for it": 2
    }
    save_encoded(data, tmp_path / "encoded.npz")
    again = load_encoded(tmp_path / "encoded.npz")
    assert again.keys is not None and again.keys.tolist() == data.keys.tolist()  # type: ignore[union-attr]
    assert len(again) == data.rows - 2


def test_scores_of_other_tokens_are_refused(trainings: Trainings) -> None:
    spec = soft_spec(trainings)
    path = Path(spec.scores[0])
    path.write_text(path.read_text().replace('"sha":"', '"sha":"0', 1))
    with pytest.raises(DataError, match="other tokens"):
        encoded(spec)
    with pytest.raises(DataError, match="k = 7"):
        SoftScores(replace(spec, distill=settings(k=7)))


def own_spec(trainings: Trainings, answers: list[list[int]], **changes: Any) -> TrainSpec:
    """Rationales as text, and answers of the student's own with their scores."""
    spec = trainings.spec(rows=12)
    rows = tiny_student.rows(len(answers), seed=5)
    texts = [
        (
            ScoredText(
                sample_key(row["id"], 0), 0, ids_digest(ids), 0, row["id"], row["problem"], pack_ids(ids)
            ),
            make_block(ids, n),
        )
        for n, (row, ids) in enumerate(zip(rows, answers, strict=True))
    ]
    path = Path(spec.work_dir).parent / "scores" / "shard-0.jsonl"
    return replace(spec, scores=[write_scores(path, texts)], distill=settings("on_policy", **changes))


def test_own_answers_are_mixed_with_rationales(trainings: Trainings) -> None:
    answers = [[50, 60, 70, 2], [80], [90] * 30]  # a truncated one has no end token, and gets none
    spec = own_spec(trainings, answers, text_share=0.6)
    data, scores = encoded(spec), SoftScores(spec)
    kinds = [scores.kind(str(key)) for key in data.keys]  # type: ignore[union-attr]
    assert kinds.count("own") == 3 and kinds.count("text") == round(3 * 0.6 / 0.4)
    for number, key in enumerate(data.keys):  # type: ignore[arg-type]
        if key:
            assert data.tokens(number)[data.prompts[number] :].tolist() in answers
    everything = list(range(len(data)))
    batcher = Batcher(
        data,
        spec.config,
        rank=0,
        ranks=1,
        attention="varlen",
        pad_token=0,
        device=torch.device("cpu"),
        scores=scores,
    )
    scored = batcher.build(everything).scored
    assert scored is not None
    total = int(data.targets.sum())
    assert float(scored.divergence.sum()) == pytest.approx(
        0.4 * total, rel=1e-5
    )  # its share, whatever its number of tokens
    assert float(scored.cross_entropy.sum()) == pytest.approx(0.6 * total, rel=1e-5)
    assert not ((scored.divergence > 0) & (scored.cross_entropy > 0)).any()


def test_a_position_without_score_is_learned_as_text_or_not_at_all(trainings: Trainings) -> None:
    spec = soft_spec(trainings, rows=3)
    texts = score_texts(spec)
    cut = [
        (text, Block(*(getattr(block, n)[:-1] for n in ("ids", "log_p", "own", "tail", "old"))))
        for text, block in texts
    ]
    spec = replace(spec, scores=[write_scores(Path(spec.scores[0]), cut)])
    data, scores = encoded(spec), SoftScores(spec)
    keys, targets = [str(key) for key in data.keys], [int(n) for n in data.targets]  # type: ignore[union-attr]
    scored = scores.of(keys, targets, scores.scales(keys, data.targets))
    ends = torch.tensor(targets).cumsum(0) - 1
    assert (scored.divergence[ends] == 0).all() and (scored.cross_entropy[ends] == 1).all()


def test_a_training_is_the_same_in_pieces_on_ranks_and_resumed(trainings: Trainings) -> None:
    whole = soft_spec(trainings, "whole")
    trainings.run(whole)
    rows = metrics(whole)
    assert {"divergence", "cross_entropy", "teacher_mass", "student_mass", "overlap", "entropy"} <= rows[
        -1
    ].keys()
    assert rows[-1]["divergence"] < rows[0]["divergence"]
    losses = [row["loss"] for row in rows]

    resumed = soft_spec(trainings, "resumed")
    assert trainings.start(resumed, 1, Moment(signal.SIGUSR1, at=len(rows) // 2)).wait() != [0]
    trainings.run(resumed)
    assert same_bits(weights(whole), weights(resumed))

    pieces, two = soft_spec(trainings, "pieces"), soft_spec(trainings, "two", zero_stage=2)
    trainings.run(pieces, ALWAYS_PIECEWISE="1")
    trainings.run(two, 2)
    padded = soft_spec(trainings, "padded", packing=False, micro_batch_tokens=200)
    trainings.run(padded)
    for other in (pieces, two, padded):
        assert [row["loss"] for row in metrics(other)] == pytest.approx(losses, abs=2e-4)
        assert metrics(other)[-1]["divergence"] == pytest.approx(rows[-1]["divergence"], abs=2e-4)

    perturbed = soft_spec(trainings, "perturbed")
    texts = score_texts(perturbed)
    texts[0][1].log_p[3, 1] -= 1
    write_scores(Path(perturbed.scores[0]), texts)
    trainings.run(perturbed)
    assert not same_bits(weights(whole), weights(perturbed)), "scores that change nothing are not read"
