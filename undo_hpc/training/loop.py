"""The training of a student, top to bottom, in one sitting.

Setup: tokenizer, data, weights, DeepSpeed, the newest sound checkpoint. Then steps: this rank's micro-batches forward and
backward, a vote of all ranks (is the loss finite, shall we stop, is a checkpoint on disk), the update, a log line, a
checkpoint. At the end the student is published.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ExitCode, TrainingError
from undo_hpc.storage.atomic import write_json
from undo_hpc.training import answer_head, export, preflight, student
from undo_hpc.training.answer_head import AnswerHead
from undo_hpc.training.batches import Batcher, MicroBatch
from undo_hpc.training.checkpoints import CheckpointManager
from undo_hpc.training.deepspeed_settings import deepspeed_settings, in_use, zero_stage
from undo_hpc.training.encoding import EncodedSet, encode_spec, load_encoded, save_encoded
from undo_hpc.training.packing import Step, StepPlan
from undo_hpc.training.ranks import Rank, Team
from undo_hpc.training.schedule import learning_rate
from undo_hpc.training.spec import TrainSpec
from undo_hpc.training.stopping import Reason, Stopper
from undo_hpc.training.watching import StepFlops, TrainingMonitor, check_sinks, peak_flops


def run_rank(spec: TrainSpec, env: Mapping[str, str], stopper: Stopper) -> ExitCode:
    """What one rank does. Returns COMPLETE (published), REQUEUE or INTERRUPTED (saved); raises UndoError otherwise."""
    config = spec.config
    who = Rank.from_environment(env)
    if config.threads:
        torch.set_num_threads(config.threads)
    if who.world == 1 and export.exported(
        spec
    ):  # several ranks could see it at different times, and wait for each other
        _say(who, f"{spec.out_dir} is complete already")
        return ExitCode.COMPLETE
    Path(spec.work_dir).mkdir(parents=True, exist_ok=True)
    team = Team(who, Path(spec.work_dir), env)
    with (
        contextlib.ExitStack() as at_end,
        preflight.memory_explained(f"the training does not fit in the memory of {team.device}", config),
    ):
        code = train(spec, config, team, stopper, at_end)
    team.close()  # not after a failure: the others are somewhere else, and leaving in good order could wait for them
    return code


def train(
    spec: TrainSpec, config: TrainConfig, team: Team, stopper: Stopper, at_end: contextlib.ExitStack
) -> ExitCode:
    """The whole training on this rank; see the module's text. What must be closed however it ends goes to `at_end`."""

    def say(text: str) -> None:
        _say(team.who, text)

    # -- setup ----------------------------------------------------------------------------------------------------
    check_sinks(config)
    settings = deepspeed_settings(config)
    for line in in_use(config, gpu=team.device.type == "cuda"):
        say(line)
    tokenizer = student.load_tokenizer(spec)
    data = load_data(spec, tokenizer, team)
    plan = StepPlan(
        data.lengths,
        budget=config.tokens_per_batch,
        epochs=config.epochs,
        max_steps=config.max_steps,
        seed=spec.seed,
    )
    attention = student.choose_attention(config, team.device, say)
    batcher = Batcher(
        data,
        config,
        rank=team.who.rank,
        ranks=team.who.world,
        attention=attention,
        pad_token=tokenizer.pad_token_id or 0,
        device=team.device,
    )
    checkpoints = CheckpointManager(spec, team, say)
    found = checkpoints.newest()
    universal = None
    if found and found.world != team.who.world and zero_stage(config) > 0:
        universal = checkpoints.universal(found)
        settings["checkpoint"] = {**settings.get("checkpoint", {}), "load_universal": True}
    torch.manual_seed(spec.seed)
    model = student.load_student(
        spec, config, attention, say, zero3_settings=settings if zero_stage(config) == 3 else None
    )
    head = answer_head.install(model, config.micro_batch_tokens)
    weights, learned = (
        sum(student.size(p) for p in model.parameters() if p.requires_grad or not only)
        for only in (False, True)
    )
    step_flops = StepFlops(model.config.get_text_config(), weights, learned)
    remarks = preflight.check_match(spec, tokenizer, model, data, attention)
    engine = build_engine(model, config, settings, team)
    if config.packing:
        preflight.check_documents_apart(lambda batch: logits_of(engine, batch), data, batcher, spec)
    torch.manual_seed(spec.seed * 1_000_003 + team.who.rank)  # dropout differs between ranks
    if config.preflight:
        tried = preflight.try_longest(
            lambda batch: try_batch(engine, batch, head),
            preflight.longest_micro_batch(data, batcher, config),
            config,
            team.device,
        )
        if team.who.first:
            preflight.report(
                spec,
                config,
                data,
                weights=weights,
                learned=learned,
                ranks=team.who.world,
                device=team.device,
                steps=plan.total,
                remarks=remarks,
                tried=tried,
                say=say,
            )
    checkpoints.attach(engine)
    if found:
        checkpoints.load(engine, found, universal)
    peak = peak_flops(team.device, config.precision) if step_flops.known else None
    begin = found.step if found else 0
    if asked := Reason(int(team.highest(stopper.reason(0.0, 0.0))[0])):
        say(f"stopped before the first step ({asked.name.lower()})")
        return asked.exit_code
    stopper.loading = False  # from here on there is something to save, and all ranks are here to do it
    monitor = (
        TrainingMonitor(spec, plan.total, begin, peak * team.who.world if peak else None)
        if team.who.first
        else None
    )
    if monitor:
        at_end.callback(monitor.close)  # dashboards write their last rows then

    # -- steps ----------------------------------------------------------------------------------------------------
    clip_here = zero_stage(config) == 0
    slowest_step, last_saved, saved_at, reason = 0.0, begin, time.monotonic(), Reason.NONE
    tally, since_save, total_loss = Tally(), Tally(), math.nan
    for step in plan.steps(begin):
        step_began = time.monotonic()
        targets, lr = batcher.targets(step), learning_rate(config, step.number, plan.total)
        micro_batches, loss_sum = batcher.micro_batches(step), torch.zeros((), device=team.device)
        for at, batch in enumerate(micro_batches):
            engine.set_gradient_accumulation_boundary(at == len(micro_batches) - 1)
            loss = answer_loss(engine, batch, head)
            engine.backward(
                loss * (team.who.world / targets)
            )  # DeepSpeed averages over ranks; the mean is over all targets
            loss_sum += loss.detach()
        step_loss = float(loss_sum)

        my_word = (
            stopper.reason(checkpoints.save_seconds, slowest_step),
            not math.isfinite(step_loss),
            not checkpoints.written,
            team.who.first and save_late(config, time.monotonic() - saved_at),
        )  # the clock of rank 0 counts for all
        stop, bad, unwritten, late = team.highest(*my_word)
        reason = Reason(int(stop))
        if bad:
            raise bad_loss(spec, data, step, micro_batches, step_loss, team)
        for group in engine.optimizer.param_groups:
            group["lr"] = lr
        norm = clip_gradients(engine, config) if clip_here else None
        engine.step()
        grad_norm = float(norm if norm is not None else engine.get_global_grad_norm() or 0.0)
        if not math.isfinite(grad_norm):
            raise bad_loss(
                spec, data, step, micro_batches, step_loss, team, what=f"gradient norm {grad_norm}"
            )

        done = step.number + 1
        for t in (tally, since_save):
            t.add(step_loss, targets, micro_batches)
        tally.flops += step_flops.flops([int(n) for n in data.lengths[step.examples]], targets)
        last = done == plan.total
        if done % config.log_steps == 0 or last or reason:
            total_loss, tokens, slots = tally.over(team)
            if monitor:
                monitor.log(
                    done,
                    epoch=step.epoch,
                    loss=total_loss,
                    lr=lr,
                    grad_norm=grad_norm,
                    tokens=tokens,
                    slots=slots,
                    targets=tally.targets,
                    flops=tally.flops,
                )
            tally = Tally()
        if not unwritten:
            checkpoints.settle()
        slowest_step = max(slowest_step, time.monotonic() - step_began)
        if done - last_saved >= config.checkpoint.every_steps or late or reason:
            checkpoints.save(engine, done, since_save.over(team)[0])
            last_saved, saved_at, since_save = done, time.monotonic(), Tally()
        if reason and not last:
            checkpoints.settle()
            say(f"stopped after step {done} ({reason.name.lower()}); the state is saved")
            return reason.exit_code

    # -- the student ----------------------------------------------------------------------------------------------
    checkpoints.settle()
    summary = {
        "steps": plan.total,
        "epochs": config.epochs,
        "examples": len(data),
        "target_tokens_in_data": int(data.targets.sum()),
        "tokens": plan.tokens(),
        "final_loss": monitor.last.get("loss", total_loss) if monitor else total_loss,
        "ranks": team.who.world,
    }
    export.export(spec, config, engine, tokenizer, data, team, summary)
    say(f"published {spec.out_dir}")
    return ExitCode.COMPLETE


class Tally:
    """Sums between two log steps on this rank; `targets` and `flops` are of all ranks."""

    def __init__(self) -> None:
        self.loss, self.targets, self.tokens, self.slots, self.flops = 0.0, 0, 0, 0, 0.0

    def add(self, loss: float, targets: int, batches: list[MicroBatch]) -> None:
        """Counts one step."""
        self.loss += loss
        self.targets += targets
        self.tokens += sum(batch.tokens for batch in batches)
        self.slots += sum(batch.slots for batch in batches)

    def over(self, team: Team) -> tuple[float, float, float]:
        """Over all ranks: mean loss of a target token, real tokens, computed positions."""
        loss, tokens, slots = team.sum(self.loss, float(self.tokens), float(self.slots))
        return loss / max(1, self.targets), tokens, slots


def load_data(spec: TrainSpec, tokenizer: Any, team: Team) -> EncodedSet:
    """The encoded examples: tokenised by rank 0 once, kept for the other ranks and for later starts."""
    key = f"{spec.data_digest or 'data'}-{abs(hash_of(spec)):x}"
    path = Path(spec.work_dir) / f"encoded-{key}.npz"

    def encode() -> None:
        if not path.exists():
            for old in path.parent.glob("encoded-*.npz"):
                old.unlink()
            save_encoded(encode_spec(spec, tokenizer), path)

    team.first_does(encode)
    return load_encoded(path)


def hash_of(spec: TrainSpec) -> int:
    """A number for everything beside the data that decides the tokens."""
    import hashlib
    import json

    from undo_hpc.prompts import load_prompts

    parts = [
        spec.model,
        spec.revision,
        load_prompts(spec.prompt).digest,
        spec.instruction,
        spec.system_prompt,
        spec.chat_template_kwargs,
        spec.config.max_length,
        spec.config.too_long,
        spec.data,
    ]
    return int.from_bytes(hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()[:8], "big")


def build_engine(model: Any, config: TrainConfig, settings: dict[str, Any], team: Team) -> Any:
    """DeepSpeed around the model, with torch's own AdamW (DeepSpeed's would be compiled at the first start)."""
    import deepspeed

    learned = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": learned, "weight_decay": 0.0}]
    if config.weight_decay:
        groups = [
            {"params": [p for p in learned if student.dims(p) >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in learned if student.dims(p) < 2], "weight_decay": 0.0},
        ]
    model.to(team.device)
    optimizer = torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its memory use, whatever its log level
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    engine.train()
    return engine


def answer_loss(engine: Any, batch: MicroBatch, head: AnswerHead | None = None) -> torch.Tensor:
    """The summed cross-entropy of the answers in a micro-batch. Only the positions that predict an answer reach the last layer."""
    if head is not None:
        head.targets = batch.targets
        loss: torch.Tensor = engine(**batch.inputs).logits.sum()
        return loss
    logits = engine(**batch.inputs).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), batch.targets, reduction="sum", ignore_index=-100)


def logits_of(engine: Any, batch: MicroBatch) -> torch.Tensor:
    """The logits at the kept positions, without dropout and without gradients. Shape (1, kept, vocabulary)."""
    engine.eval()
    with torch.no_grad():
        logits: torch.Tensor = engine(**batch.inputs).logits
    engine.train()
    return logits


def clip_gradients(engine: Any, config: TrainConfig) -> torch.Tensor:
    """Clips in place where asked for; the norm before."""
    return torch.nn.utils.clip_grad_norm_(engine.module.parameters(), config.max_grad_norm or math.inf)


def save_late(config: TrainConfig, seconds: float) -> bool:
    """Whether a checkpoint is due by the clock."""
    return config.checkpoint.every_minutes > 0 and seconds >= 60 * config.checkpoint.every_minutes


def try_batch(engine: Any, batch: MicroBatch, head: AnswerHead | None) -> None:
    """Forward and backward without an update; the gradients are thrown away."""
    engine.set_gradient_accumulation_boundary(False)
    engine.backward(answer_loss(engine, batch, head) * 0.0)
    engine.optimizer.zero_grad()
    engine.zero_grad()


def bad_loss(
    spec: TrainSpec,
    data: EncodedSet,
    step: Step,
    batches: list[MicroBatch],
    loss: float,
    team: Team,
    what: str = "",
) -> TrainingError:
    """Keeps the ids of the rows that this rank was learning from; the error to stop with."""
    path = Path(spec.work_dir) / f"bad-batch-rank{team.who.rank:05d}.json"
    mine = [str(data.names[i]) for batch in batches for i in batch.examples]
    write_json(path, {"step": step.number + 1, "epoch": step.epoch, "loss": str(loss), "rows": mine})
    return TrainingError(
        f"{what or f'loss {loss}'} at step {step.number + 1}: training stops; the rows of this step are in {path}",
        hint="the last checkpoint is untouched; lower train.learning_rate, look at those rows, or use precision bf16",
    )


def _say(who: Rank, text: str) -> None:
    if who.first:
        print(text, flush=True)
