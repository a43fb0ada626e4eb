"""An evaluation is repeated in batches of another size: by the same engine, otherwise as before."""

from __future__ import annotations

from undo_hpc.config.load import load_config
from undo_hpc.stages.repeat import other_batches


def test_only_the_size_of_batches_differs() -> None:
    engine = load_config("tiny", ["evaluate.engine.transformers.max_batch=64"]).evaluate.engine
    again = other_batches(engine)
    assert (again.transformers.max_batch, again.vllm.max_num_seqs, again.openai.concurrency) == (24, 192, 24)
    assert again.name == engine.name and again.transformers.batch_invariant
    least = engine.model_copy(
        update={"transformers": engine.transformers.model_copy(update={"max_batch": 1})}
    )
    assert other_batches(least).transformers.max_batch == 1
