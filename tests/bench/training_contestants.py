"""One contestant of the training benchmark a process: `python -m tests.bench.training_contestants NAME PLACE` prints a JSON line.

All train the same tiny Qwen2 on the same tokens with the same mask, optimiser and learning rate. CPU seconds and memory are those of
the training itself, from its first step to its last; imports and loading are the same for all and left out.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.training_race import LR, Curve, Meter, encoded, metered, race_of
from undo_hpc.training.spec import TrainSpec


def ours(place: Path, meter: Meter, *, saves: int = 0) -> Curve:
    """undo_hpc.training, as a run uses it; afterwards `saves` checkpoints."""
    from undo_hpc.training import export, loop
    from undo_hpc.training.__main__ import main

    plain_rate, plain_export = loop.learning_rate, export.export

    def learning_rate(config: Any, step: int, total: int) -> float:
        if step == 0:
            meter.start()
        return plain_rate(config, step, total)

    def publish(*args: Any) -> None:
        meter.stop()
        if saves:
            _save(args[0], args[2], args[5], saves, meter)
        plain_export(*args)

    loop.learning_rate, export.export = learning_rate, publish
    spec = TrainSpec.load(place / "spec.json")
    own = place / f"ours-{os.getpid()}"
    TrainSpec(**{**spec.__dict__, "work_dir": str(own / "work"), "out_dir": str(own / "out")}).save(
        place / f"{own.name}.json"
    )
    assert main([str(place / f"{own.name}.json")], time.monotonic()) == 0
    rows = [json.loads(line) for line in (own / "work" / "metrics.jsonl").read_text().splitlines()]
    preflight = own / "work" / "preflight.json"
    if preflight.exists():
        meter.told["preflight"] = json.loads(preflight.read_text())
    meter.told |= {"rows": rows, "tokens": sum(row["tokens"] for row in rows)}
    return [(row["step"], row["loss"]) for row in rows]


def _save(spec: TrainSpec, engine: Any, dist_context: Any, count: int, meter: Meter) -> None:
    """Checkpoints one after another. Only the first goes to the disk: of the others just the standing still counts."""
    from undo_hpc.training import writer
    from undo_hpc.training.checkpoints import CheckpointManager

    keeper = CheckpointManager(spec, dist_context)
    keeper.attach(engine)
    for step in range(1, count + 1):
        keeper.save(engine, step, 0.0)
        keeper.finalize()
        made = next(keeper.folder.glob("step-*"))
        if step == 1:
            meter.told["size_mib"] = (
                sum(file.stat().st_size for file in made.rglob("*") if file.is_file()) / 2**20
            )
            writer.write_file = lambda state, path: {"size": 0, "sha256": ""}
        shutil.rmtree(made)
    meter.told |= {"blocked": keeper.blocked_s, "whole": keeper.whole_s}


def plain(place: Path, meter: Meter) -> Curve:
    """Our packing and loss in a bare torch loop: what DeepSpeed's engine and the watching cost."""
    import torch

    from undo_hpc.training import attention, loop, student
    from undo_hpc.training.batches import Batcher
    from undo_hpc.training.encoding import encode_spec
    from undo_hpc.training.packing import StepPlan

    spec = TrainSpec.load(place / "spec.json")
    config = spec.config
    data = encode_spec(spec, student.load_tokenizer(spec))
    model = student.load_student(spec, config, attention.NAME)
    batcher = Batcher(
        data, config, rank=0, ranks=1, attention=attention.NAME, pad_token=0, device=torch.device("cpu")
    )
    plan = StepPlan(data.lengths, budget=config.tokens_per_batch, epochs=1, max_steps=0, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0, fused=True)
    losses: Curve = []
    meter.start()
    for step in plan.steps():
        total = 0.0
        for batch in batcher.micro_batches(step):
            loss = loop.answer_loss(model, batch) / batcher.targets(step)
            loss.backward()
            total += float(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append((step.number + 1, total))
    meter.stop()
    meter.told["tokens"] = plan.tokens()
    return losses


def _common(place: Path) -> dict[str, Any]:
    """Trainer's arguments that say the same as our spec."""
    import torch

    config = TrainSpec.load(place / "spec.json").config
    gpu = torch.cuda.is_available()
    return {
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "num_train_epochs": 1,
        "logging_steps": config.log_steps,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": not gpu,
        "bf16": bool(race_of(place)["autocast"]),
        "max_grad_norm": 1.0,
        "adam_beta2": 0.999,
        "disable_tqdm": True,
        "seed": 0,
        "optim": "adamw_torch_fused",
        "dataloader_pin_memory": gpu,
        "dataloader_num_workers": 0,
        "max_steps": config.max_steps or -1,
        "gradient_checkpointing": config.gradient_checkpointing,
        "use_liger_kernel": config.liger and liger_works(),
    }


def liger_works() -> bool:
    """Whether Liger's kernels can be used here, for all contestants alike."""
    import torch

    return torch.cuda.is_available() and importlib.util.find_spec("liger_kernel") is not None


def _kernels(attention: str, liger: bool) -> str:
    return f"attention {attention}, {'Liger' if liger else 'plain'} kernels"


def _trainer(
    place: Path, meter: Meter, *, at_once: int = 0, flattened: bool = False, **options: Any
) -> Curve:
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, DataCollatorWithFlattening, Trainer, TrainingArguments

    data, tokenizer, model = encoded(place)
    rows = [
        {
            "input_ids": data.tokens(i).tolist(),
            "labels": [-100] * int(data.prompts[i]) + data.tokens(i)[data.prompts[i] :].tolist(),
            "length": int(data.lengths[i]),
        }
        for i in range(len(data))
    ]
    race = race_of(place)
    at_once = at_once or race["at_once"]
    arguments = TrainingArguments(
        output_dir=str(place / "trainer"),
        per_device_train_batch_size=at_once,
        remove_unused_columns=True,
        gradient_accumulation_steps=race["batch"] // at_once,
        **_common(place),
        **options,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        callbacks=[metered(meter)],
        data_collator=DataCollatorWithFlattening()
        if flattened
        else DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100),
    )
    return _train(trainer, meter)


def _train(trainer: Any, meter: Meter) -> Curve:
    """Trains, and counts the tokens of the rows that it took (on a GPU with one micro-batch too many: it fetches ahead)."""
    collate = trainer.data_collator

    def counting(rows: list[dict[str, Any]]) -> Any:
        meter.told["tokens"] += sum(len(row["input_ids"]) for row in rows)
        return collate(rows)

    trainer.data_collator, meter.told["tokens"] = counting, 0
    meter.told["kernels"] = _kernels(trainer.model.config._attn_implementation, trainer.args.use_liger_kernel)
    trainer.train()
    return [(row["step"], row["loss"]) for row in trainer.state.log_history if "loss" in row]


def trainer_padded(place: Path, meter: Meter) -> Curve:
    """transformers' Trainer, random batches padded to their longest."""
    return _trainer(place, meter)


def trainer_grouped(place: Path, meter: Meter) -> Curve:
    """transformers' Trainer with batches of similar length."""
    return _trainer(place, meter, train_sampling_strategy="group_by_length", length_column_name="length")


def trainer_flattened(place: Path, meter: Meter) -> Curve:
    """transformers' Trainer with its padding-free collator: the rows of a batch one behind the other."""
    return _trainer(place, meter, flattened=True)


def trainer_rows(place: Path, meter: Meter) -> Curve:
    """transformers' Trainer, a row at a time: nothing is padded, and no document sees another."""
    return _trainer(place, meter, at_once=1)


def trl_packed(place: Path, meter: Meter) -> Curve:
    """TRL's SFTTrainer with packing (best-fit decreasing), about the same number of tokens a step in rows that hold the longest example.

    It asks for FlashAttention where it packs, which CPUs lack; here its rows go through SDPA with the mask that transformers makes.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    data, tokenizer, model = encoded(place)
    rows = [
        {
            "input_ids": data.tokens(i).tolist(),
            "completion_mask": [0] * int(data.prompts[i]) + [1] * int(data.targets[i]),
        }
        for i in range(len(data))
    ]
    config = TrainSpec.load(place / "spec.json").config
    count = max(1, config.tokens_per_batch // int(data.lengths.max()))
    length = config.tokens_per_batch // count
    at_once = min(count, max(1, config.micro_batch_tokens // length))
    arguments = SFTConfig(
        output_dir=str(place / "trl"),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=-(-count // at_once),
        packing=True,
        max_length=length,
        completion_only_loss=True,
        **_common(place),
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[metered(meter)],
    )
    return _train(trainer, meter)


CONTESTANTS: dict[str, Callable[[Path, Meter], Curve]] = {
    "ours": ours,
    "ours_then_saved": partial(ours, saves=3),
    "plain": plain,
    "trainer_padded": trainer_padded,
    "trainer_grouped": trainer_grouped,
    "trainer_rows": trainer_rows,
    "trainer_flattened": trainer_flattened,
    "trl_packed": trl_packed,
}


def mean_loss(curve: Curve, steps: int) -> float:
    """Mean loss of the second half of the steps that all contestants take (one more step is one more step of learning)."""
    last = min(curve[-1][0], steps)
    spans = [
        (min(step, last) - max(start, last // 2), loss)
        for (step, loss), start in zip(curve, [0, *(s for s, _ in curve)], strict=False)
    ]
    used = [(n, loss) for n, loss in spans if n > 0]
    return sum(n * loss for n, loss in used) / sum(n for n, _ in used)


def main(name: str, place: Path) -> None:
    """Trains once as that contestant and prints its figures."""
    os.environ.update(
        {
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }
    )
    from undo_hpc.training.setup import quiet_deepspeed

    quiet_deepspeed()
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    meter = Meter()
    curve = CONTESTANTS[name](place, meter)
    print(
        json.dumps(
            {
                "name": name,
                "cpu_s": meter.cpu,
                "wall_s": meter.wall,
                "grown": meter.peak - meter.before,
                "peak": meter.peak,
                "loss": mean_loss(curve, race_of(place)["steps"]),
                "steps": curve[-1][0],
                "gpu_gib": torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0,
            }
            | meter.told
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
