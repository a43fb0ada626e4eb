"""The training of a student: one function, `train`, to be read from top to bottom.

Setup: tokenizer, data, weights, DeepSpeed, the latest valid checkpoint. Then steps: this rank's micro-batches forward and
backward, a vote of all ranks (is the loss finite, is it time to stop, is a checkpoint on disk), the update, a log line, a
checkpoint. At the end the student is published.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from undo_hpc.config.train import TrainConfig
from undo_hpc.errors import ExitCode, TrainingError
from undo_hpc.storage.atomic import make_folder, translate_os_error, write_json
from undo_hpc.system.logs import TREE
from undo_hpc.training import answer_head, export, preflight, student
from undo_hpc.training.answer_head import AnswerHead
from undo_hpc.training.attention_check import settle_attention
from undo_hpc.training.batches import Batcher, MicroBatch
from undo_hpc.training.checkpoints import CheckpointManager
from undo_hpc.training.deepspeed_settings import deepspeed_settings, in_use, zero_stage
from undo_hpc.training.divergence import FIGURES, means, scored_loss
from undo_hpc.training.encoding import EncodedSet, load_data
from undo_hpc.training.packing import Step, StepPlan, passes
from undo_hpc.training.ranks import DistContext, RankInfo
from undo_hpc.training.schedule import learning_rate
from undo_hpc.training.soft_scores import SoftScores
from undo_hpc.training.spec import TrainSpec
from undo_hpc.training.stopping import Reason, Stopper
from undo_hpc.training.watching import StepFlops, TrainingMonitor, check_trackers, peak_flops, tell

log = logging.getLogger(__name__)


def run_rank(spec: TrainSpec, env: Mapping[str, str], stopper: Stopper) -> ExitCode:
    """What one rank does. Returns COMPLETE (published), REQUEUE or INTERRUPTED (saved); raises UndoError otherwise."""
    config = spec.config
    info = RankInfo.from_environment(env)
    if not info.is_first:
        logging.getLogger(TREE).setLevel(logging.ERROR)  # the first rank speaks for all
    if config.threads:
        torch.set_num_threads(config.threads)
    # Only where there is one rank: several could see the student at different times, and then wait for each other.
    if info.world_size == 1 and export.exported(spec):
        log.info("%s is complete already", spec.out_dir)
        return ExitCode.COMPLETE
    with translate_os_error(Path(spec.work_dir)):
        make_folder(Path(spec.work_dir))
    dist_context = DistContext(info, Path(spec.work_dir), env)
    with (
        contextlib.ExitStack() as at_end,
        preflight.memory_explained(
            f"the training does not fit in the memory of {dist_context.device}", config
        ),
    ):
        code = train(spec, config, dist_context, stopper, at_end)
    # Not after a failure: the other ranks may be inside another collective call, and closing would wait for them.
    dist_context.close()
    return code


def train(
    spec: TrainSpec,
    config: TrainConfig,
    dist_context: DistContext,
    stopper: Stopper,
    at_end: contextlib.ExitStack,
) -> ExitCode:
    """The whole training on this rank; see the module's text. What must be closed however it ends goes to `at_end`."""
    info, device = dist_context.info, dist_context.device

    def doing(what: str) -> None:
        if info.is_first:
            tell(spec, what)

    # -- setup: settings, data, model, engine ---------------------------------------------------------------------
    check_trackers(config)
    settings = deepspeed_settings(config)
    for line in in_use(config, gpu=device.type == "cuda"):
        log.info(line)

    # Data: token ids of all examples on every rank; a step is a slice of their shuffled order.
    doing("encoding the distilled set")
    tokenizer = student.load_tokenizer(spec)
    data = load_data(spec, tokenizer, dist_context)
    plan = StepPlan(
        data.lengths,
        budget=config.tokens_per_batch,
        epochs=passes(config.epochs, config.tokens, data.lengths),
        max_steps=config.max_steps,
        seed=spec.seed,
    )

    # The checkpoint to resume from. Another number of ranks needs it in DeepSpeed's universal form.
    checkpoints = CheckpointManager(spec, dist_context)
    found = checkpoints.latest()
    universal = None
    if found and found.world_size != info.world_size and zero_stage(config) > 0:
        universal = checkpoints.universal(found)
        settings["checkpoint"] = {**settings.get("checkpoint", {}), "load_universal": True}

    # Model: first weights, the last layer that computes the loss in pieces, DeepSpeed around both.
    doing("loading the student")
    attention = student.choose_attention(config, device)
    torch.manual_seed(spec.seed)
    zero3_settings = settings if zero_stage(config) == 3 else None
    model, attention = student.load_with_attention(spec, config, attention, zero3_settings=zero3_settings)
    head = answer_head.install(model, config.micro_batch_tokens)
    parameters = list(model.parameters())
    num_params = sum(student.size(p) for p in parameters)
    num_trainable = sum(student.size(p) for p in parameters if p.requires_grad)
    step_flops = StepFlops(model.config.get_text_config(), num_params, num_trainable)
    engine = build_engine(model, config, settings, dist_context)

    # Checks that need the model: its attention, its vocabulary, packed documents, memory for the longest micro-batch.
    doing("trying the longest batch (preflight)" if config.preflight else "checking the attention")
    attention = settle_attention(
        student.base_model(model),
        lambda batch: logits_of(engine, batch),
        config,
        attention,
        dist_context,
        spec_model=spec.model,
    )
    warnings = preflight.check_match(spec, tokenizer, model, data, attention)
    batcher = Batcher(
        data,
        config,
        rank=info.rank,
        ranks=info.world_size,
        attention=attention,
        pad_token=preflight.pad_token(tokenizer, model),
        device=device,
        scores=SoftScores(spec) if spec.scores else None,
    )
    if config.packing:
        preflight.check_documents_apart(lambda batch: logits_of(engine, batch), data, batcher, spec)
    torch.manual_seed(spec.seed * 1_000_003 + info.rank)  # dropout differs between ranks
    if config.preflight:
        tried = preflight.try_longest(
            lambda batch: try_batch(engine, batch, head),
            preflight.longest_micro_batch(data, batcher, config),
            config,
            device,
        )
        if info.is_first:
            preflight.report(
                spec,
                config,
                data,
                num_params=num_params,
                num_trainable=num_trainable,
                ranks=info.world_size,
                device=device,
                steps=plan.total,
                warnings=warnings,
                tried=tried,
            )

    doing(f"first of {plan.total:,} steps" if not found else f"step {found.step:,} of {plan.total:,}")
    checkpoints.attach(engine)
    if found:
        checkpoints.load(engine, found, universal)
    begin = found.step if found else 0
    asked = Reason(int(dist_context.all_reduce_max(stopper.reason(0.0, 0.0))[0]))
    if asked:
        log.info(f"stopped before the first step ({asked.name.lower()})")
        return asked.exit_code
    stopper.loading = False  # from here on there is something to save, and all ranks are here to do it
    monitor = None
    if info.is_first:
        peak = peak_flops(device, config.precision) if step_flops.known else None
        monitor = TrainingMonitor(spec, plan.total, begin, peak * info.world_size if peak else None)
        at_end.callback(monitor.close)  # dashboards write their last rows then
        spec.tell_ready()

    # -- steps ----------------------------------------------------------------------------------------------------
    clip_here = zero_stage(config) == 0
    slowest_step_s, last_saved, saved_at, reason = 0.0, begin, time.monotonic(), Reason.NONE
    tally, since_save, mean_loss = Tally(), Tally(), found.loss if found else math.nan
    since_log = Tally(*found.since_log) if found else Tally()
    for step in plan.steps(begin):
        step_began = time.monotonic()
        lr = learning_rate(config, step.number, plan.total)

        # 1. Forward and backward of this rank's micro-batches. The loss is the mean over the target tokens of the whole step, on
        #    all ranks and in all micro-batches: each sums its own, and DeepSpeed, which averages over ranks, is undone here.
        num_targets = batcher.targets(step)
        micro_batches = batcher.micro_batches(step)
        loss_sum = torch.zeros((), device=device)
        for index, batch in enumerate(micro_batches):
            engine.set_gradient_accumulation_boundary(index == len(micro_batches) - 1)
            loss = answer_loss(engine, batch, head)
            engine.backward(loss * (info.world_size / num_targets))
            loss_sum += loss.detach()
        tally.look_at(micro_batches)
        step_loss = float(loss_sum)

        # 2. One vote of all ranks, so that none leaves or saves alone. The clock of rank 0 counts for all.
        stop, bad, unwritten, save_is_due = dist_context.all_reduce_max(
            stopper.reason(checkpoints.save_seconds, slowest_step_s),
            not math.isfinite(step_loss),
            not checkpoints.written,
            info.is_first and save_by_clock(config, time.monotonic() - saved_at),
        )
        reason = Reason(int(stop))
        if bad:
            raise bad_loss(spec, data, step, micro_batches, step_loss, dist_context)

        # 3. The update: learning rate, clipping, optimiser step.
        for group in engine.optimizer.param_groups:
            group["lr"] = lr
        norm = clip_gradients(engine, config) if clip_here else None
        engine.step()
        grad_norm = float(norm if norm is not None else engine.get_global_grad_norm() or 0.0)
        if not math.isfinite(grad_norm):
            what = f"gradient norm {grad_norm}"
            raise bad_loss(spec, data, step, micro_batches, step_loss, dist_context, what=what)

        # 4. Logging.
        done = step.number + 1
        is_last = done == plan.total
        tally.add(step_loss, num_targets, micro_batches)
        since_save.add(step_loss, num_targets, micro_batches)
        since_log.add(step_loss, num_targets, micro_batches)
        tally.flops += step_flops.flops([int(n) for n in data.lengths[step.examples]], num_targets)
        if done % config.log_steps == 0 or is_last or reason:
            (mean_loss, *_), (_, tokens, padded_tokens) = (
                since_log.over(dist_context),
                tally.over(dist_context),
            )
            figures = means(dist_context.all_reduce_sum(*tally.figures.tolist())) if spec.scores else {}
            if monitor:
                monitor.log(
                    done,
                    epoch=step.epoch,
                    loss=mean_loss,
                    lr=lr,
                    grad_norm=grad_norm,
                    tokens=tokens,
                    padded_tokens=padded_tokens,
                    targets=tally.targets,
                    flops=tally.flops,
                    figures=figures,
                )
            tally = Tally()
        since_log = since_log if done % config.log_steps else Tally()

        # 5. Checkpoint: publish the one that all ranks have written, begin the next where it is due, leave where asked to.
        if not unwritten:
            checkpoints.finalize()
        slowest_step_s = max(slowest_step_s, time.monotonic() - step_began)
        if done - last_saved >= config.checkpoint.every_steps or save_is_due or reason:
            told = mean_loss, (dist_context.all_reduce_sum(since_log.loss)[0], since_log.targets)
            checkpoints.save(engine, done, since_save.over(dist_context)[0], *told)
            last_saved, saved_at, since_save = done, time.monotonic(), Tally()
        if reason and not is_last:
            checkpoints.finalize()
            log.info(f"stopped after step {done} ({reason.name.lower()}); the state is saved")
            return reason.exit_code

    # -- the student ----------------------------------------------------------------------------------------------
    checkpoints.finalize()
    summary = {
        "steps": plan.total,
        "epochs": plan.epochs,
        **plan.counted(data.counts, data.names, own_answers=data.keys is not None),
        "examples": len(data),
        "target_tokens_in_data": int(data.targets.sum()),
        "tokens": plan.tokens(),
        "final_loss": mean_loss,
        "ranks": info.world_size,
    }
    export.export(spec, config, engine, tokenizer, data, dist_context, summary)
    log.info(f"published {spec.out_dir}")
    return ExitCode.COMPLETE


class Tally:
    """Sums between two log steps on this rank; `targets` and `flops` are of all ranks."""

    def __init__(self, loss: float = 0.0, targets: int = 0) -> None:
        self.loss, self.flops = loss, 0.0
        self.targets, self.tokens, self.padded_tokens = targets, 0, 0
        self.figures = torch.zeros(len(FIGURES), dtype=torch.float64)

    def look_at(self, batches: list[MicroBatch]) -> None:
        """Adds the figures of scored micro-batches, after their losses were computed."""
        for batch in batches:
            if batch.scored is not None:
                self.figures += batch.scored.figures.cpu()

    def add(self, loss: float, targets: int, batches: list[MicroBatch]) -> None:
        """Counts one step."""
        self.loss += loss
        self.targets += targets
        self.tokens += sum(batch.tokens for batch in batches)
        self.padded_tokens += sum(batch.padded_tokens for batch in batches)

    def over(self, dist_context: DistContext) -> tuple[float, float, float]:
        """Over all ranks: mean loss of a target token, real tokens, computed positions."""
        loss, tokens, padded_tokens = dist_context.all_reduce_sum(
            self.loss, float(self.tokens), float(self.padded_tokens)
        )
        return loss / max(1, self.targets), tokens, padded_tokens


def build_engine(model: Any, config: TrainConfig, settings: dict[str, Any], dist_context: DistContext) -> Any:
    """DeepSpeed around the model, with torch's own AdamW (DeepSpeed's would be compiled at the first start)."""
    import deepspeed

    learned = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": learned, "weight_decay": 0.0}]
    if config.weight_decay:
        groups = [
            {"params": [p for p in learned if student.dims(p) >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in learned if student.dims(p) < 2], "weight_decay": 0.0},
        ]
    model.to(dist_context.device)
    optimizer = torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its memory use, whatever its log level
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    if dist_context.info.world_size == 1 and zero_stage(config) == 0:
        engine.enable_backward_allreduce = (
            False  # it would copy all gradients to and fro, at each step, to add up one rank's
        )
    engine.train()
    return engine


def answer_loss(engine: Any, batch: MicroBatch, head: AnswerHead | None = None) -> torch.Tensor:
    """The summed cross-entropy of the answers in a micro-batch, a scalar in nats; where they are scored, their weighted loss. Only the
    positions that predict an answer reach the last layer.
    """
    if head is not None:
        head.targets, head.scored = batch.targets, batch.scored
        loss: torch.Tensor = engine(**batch.inputs).logits.sum()
        return loss
    logits = engine(**batch.inputs).logits
    if batch.scored is not None:
        return scored_loss(logits.flatten(0, 1), batch.targets, batch.scored)
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


def save_by_clock(config: TrainConfig, seconds: float) -> bool:
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
    dist_context: DistContext,
    what: str = "",
) -> TrainingError:
    """Keeps the ids of the rows that this rank was learning from; the error to stop with."""
    path = Path(spec.work_dir) / f"bad-batch-rank{dist_context.info.rank:05d}.json"
    mine = [str(data.names[i]) for batch in batches for i in batch.examples]
    write_json(path, {"step": step.number + 1, "epoch": step.epoch, "loss": str(loss), "rows": mine})
    return TrainingError(
        f"{what or f'loss {loss}'} at step {step.number + 1}: training stops; the rows of this step are in {path}",
        hint="the last checkpoint is untouched; lower train.learning_rate, look at those rows, or use precision bf16",
    )
