"""One contestant of the goodput benchmark a process: `python -m tests.bench.goodput_contestants NAME PLACE` trains until it is done or asked to stop.

Each step takes STEP_S of sleep beside its tiny work, as a step on a large GPU takes long without the CPU, and is written down with its
time when it is done. All save every SAVE_STEPS steps. Exit code 0: done; 75: saved, start me again.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from submitit.helpers import Checkpointable, DelayedSubmission

from undo_hpc.system.forking import process_start
from undo_hpc.training.spec import TrainSpec

STEP_S = float(os.environ.get("UNDO_BENCH_STEP_S", "1.0"))
SAVE_STEPS = 10


def note(place: Path, name: str, step: int) -> None:
    """A step is done: its time and number, in one write."""
    time.sleep(STEP_S)
    fd = os.open(place / f"{name}.steps", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{time.time():.3f} {step}\n".encode())
    os.close(fd)


def note_start(place: Path, name: str) -> None:
    """When this process began, before its imports."""
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - int(process_start(os.getpid())) / os.sysconf(
        "SC_CLK_TCK"
    )
    with (place / f"{name}.starts").open("a") as file:
        file.write(f"{time.time() - since:.3f}\n")


def starts_of(place: Path, name: str) -> list[float]:
    """When each process of a contestant began."""
    path = place / f"{name}.starts"
    return [float(line) for line in path.read_text().split()] if path.exists() else []


def steps_of(place: Path, name: str) -> list[tuple[float, int]]:
    """What a contestant has written down: (time, step), steps from 1."""
    path = place / f"{name}.steps"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(float(time_), int(step)) for time_, step in map(str.split, lines)]


def ours(place: Path) -> int:
    """undo_hpc.training as a run uses it."""
    note_start(place, "ours")
    from undo_hpc.training import loop
    from undo_hpc.training.__main__ import main

    plain = loop.learning_rate

    def learning_rate(config: Any, step: int, total: int) -> float:
        note(place, "ours", step + 1)
        return plain(config, step, total)

    loop.learning_rate = learning_rate
    spec = TrainSpec.load(place / "spec.json")
    own = place / "ours"
    own.mkdir(exist_ok=True)
    train = spec.train | {"checkpoint": {"every_steps": SAVE_STEPS, "every_minutes": 0, "keep": 2}}
    TrainSpec(
        **{**spec.__dict__, "train": train, "work_dir": str(own / "work"), "out_dir": str(own / "out")}
    ).save(own / "spec.json")
    return main([str(own / "spec.json")], time.monotonic())


def trainer(place: Path, name: str = "trainer") -> int:
    """transformers' Trainer: saves regularly, and on SIGTERM by its just-in-time checkpoint; resumes from its newest whole checkpoint."""
    note_start(place, name)
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

    from tests.bench.training_race import encoded, race_of

    class Noted(TrainerCallback):  # type: ignore[misc]
        """Writes each step down."""

        def on_step_end(self, args: Any, state: Any, *more: Any, **kwargs: Any) -> None:
            note(place, name, state.global_step)

    data, tokenizer, model = encoded(place)
    rows = [
        {"input_ids": data.tokens(i).tolist(), "labels": data.tokens(i).tolist()} for i in range(len(data))
    ]
    config = TrainSpec.load(place / "spec.json").config
    arguments = TrainingArguments(
        output_dir=str(place / name), per_device_train_batch_size=race_of(place)["batch"], max_steps=config.max_steps,
        learning_rate=config.learning_rate, lr_scheduler_type="constant", save_strategy="steps", save_steps=SAVE_STEPS,
        save_total_limit=2, enable_jit_checkpoint=name == "trainer", use_cpu=True, report_to=[], disable_tqdm=True, logging_steps=50,
    )  # fmt: skip
    made = Trainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows), callbacks=[Noted()],
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100),
    )  # fmt: skip
    _under_way.append(made)
    made.train(resume_from_checkpoint=_newest(place / name))
    return 0 if made.state.global_step >= config.max_steps else 75


def _newest(folder: Path) -> str | None:
    """The newest checkpoint that is whole, as its sentinel and its last file say."""
    found = [
        path
        for path in folder.glob("checkpoint-*")
        if (path / "trainer_state.json").exists() and not (path / "checkpoint-is-incomplete.txt").exists()
    ]
    return str(max(found, key=lambda path: int(path.name.split("-")[1]))) if found else None


_under_way: list[Any] = []  # the Trainer of this process, for the signal


class Submitted(Checkpointable):
    """The same Trainer as a job of submitit that starts again by itself."""

    def __call__(self, place: str) -> int:
        """Trains."""
        return trainer(Path(place), "submitit")

    def checkpoint(self, place: str) -> DelayedSubmission:
        """What submitit calls when its signal comes: saves where it stands, as its documentation advises, and starts again from there."""
        for each in _under_way:
            each._save_checkpoint(each.model, trial=None)
        return DelayedSubmission(Submitted(), place)


def main(name: str, place: Path) -> int:
    """Trains as that contestant."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    return {"ours": ours, "trainer": trainer}[name](place)


if __name__ == "__main__":
    code = main(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)
