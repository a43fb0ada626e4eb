"""The trained student as a Hugging Face directory that transformers and vLLM load; it appears whole or not at all."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from undo_hpc.config.train import TrainConfig
from undo_hpc.models.resolve import hub_id, public_name
from undo_hpc.storage.atomic import make_folder, publish_dir, translate_os_error, write_json
from undo_hpc.storage.lease import check_inherited
from undo_hpc.system.templates import render_card
from undo_hpc.training import student
from undo_hpc.training.deepspeed_settings import zero_stage
from undo_hpc.training.encoding import EncodedSet
from undo_hpc.training.ranks import DistContext
from undo_hpc.training.spec import RECORD, TrainSpec


def exported(spec: TrainSpec) -> bool:
    """Whether the student of exactly this training stands in its place already."""
    try:
        record = json.loads((Path(spec.out_dir) / RECORD).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return False
    return isinstance(record, dict) and bool(
        record.get("run_id") == spec.run_id
        and record.get("data_digest") == spec.data_digest
        and record.get("train") == spec.train
        and record.get("reasoning", "keep") == spec.reasoning
    )


def export(
    spec: TrainSpec,
    config: TrainConfig,
    engine: Any,
    tokenizer: Any,
    data: EncodedSet,
    dist_context: DistContext,
    summary: dict[str, Any],
) -> None:
    """Gathers the weights (all ranks take part) and publishes the directory."""
    in_pieces = zero_stage(config) == 3
    weights = engine._zero3_consolidated_16bit_state_dict() if in_pieces else engine.module.state_dict()
    dist_context.on_rank_zero(
        lambda: _publish(spec, config, engine.module, weights, tokenizer, data, summary)
    )


def _publish(
    spec: TrainSpec,
    config: TrainConfig,
    model: Any,
    weights: dict[str, torch.Tensor],
    tokenizer: Any,
    data: EncodedSet,
    summary: dict[str, Any],
) -> None:
    out = Path(spec.out_dir)
    temporary = out.with_name(f".{out.name}.tmp")
    with translate_os_error(out):
        shutil.rmtree(temporary, ignore_errors=True)
        make_folder(out.parent)
        temporary.mkdir()
        if config.lora.enabled:
            model, weights = _merged(spec, config, weights)
        if spec.dtype not in ("auto", str(model.dtype).removeprefix("torch.")):
            wanted = getattr(torch, spec.dtype)
            weights = {name: w.to(wanted) if w.is_floating_point() else w for name, w in weights.items()}
            model.config.dtype = wanted
        tied = model.all_tied_weights_keys  # copies of other weights; on loading they are tied again
        weights = {name: w for name, w in weights.items() if name not in tied}
        model.config.use_cache = True
        _end_generation_at(model, data.end_token)
        with _system_error():
            model.save_pretrained(temporary, state_dict=weights)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(card(spec, config, summary), encoding="utf-8")
        write_json(
            temporary / RECORD,
            {
                "run_id": spec.run_id,
                "data_digest": spec.data_digest,
                "train": spec.train,
                "reasoning": spec.reasoning,
                "date": spec.date,
                **summary,
            },
        )
        _as_the_umask_says(temporary, (temporary / "README.md").stat().st_mode & 0o777)
        check_inherited("the training")
        publish_dir(temporary, out)


def _as_the_umask_says(folder: Path, usual: int) -> None:
    """Gives all files the usual mode: safetensors makes some that nobody else may read. Folders keep theirs (of chat templates)."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(usual)


@contextmanager
def _system_error() -> Iterator[None]:
    """safetensors writes in Rust, and hides the system's error number in its text: a full disk is told as one."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        raise OSError(int(found[1]) if found else errno.EIO, str(error)) from error


def _merged(
    spec: TrainSpec, config: TrainConfig, weights: dict[str, torch.Tensor]
) -> tuple[Any, dict[str, torch.Tensor]]:
    """The adapters merged into fresh base weights; the trained model itself may lie in pieces on many ranks."""
    fresh = student.load_student(spec, config, "sdpa")
    fresh.load_state_dict(weights)
    merged = fresh.merge_and_unload()
    return merged, merged.state_dict()


def _end_generation_at(model: Any, end_token: int) -> None:
    """The token that the student learned to end with ends its generation too, before any other."""
    settings = model.generation_config
    known = settings.eos_token_id
    others = [] if known is None else [known] if isinstance(known, int) else list(known)
    ends = [end_token, *(token for token in others if token != end_token)]
    settings.eos_token_id = ends if len(ends) > 1 else ends[0]
    if settings.temperature is None or not settings.do_sample:
        settings.do_sample, settings.temperature, settings.top_p, settings.top_k = False, None, None, None
    settings.use_cache = True


def rows_learned(summary: Mapping[str, Any]) -> str:
    """`38 rows, 4 learned (left out: 34 longer than max_length (40))`, from the counts of a training."""
    rows, learned = summary["rows_given"], summary["rows_learned"]
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in summary["rows_left_out"].items())
    return f"{rows:,} rows, {learned:,} learned" + (f" (left out: {reasons})" if reasons else "")


def card(spec: TrainSpec, config: TrainConfig, summary: dict[str, Any]) -> str:
    """The model card: where the student comes from, what it learned and how. Its accuracy is not known before it is evaluated."""
    from huggingface_hub import ModelCardData

    about = spec.card
    parent, base = str(about.get("parent", spec.model)), str(about.get("base_model", ""))
    return render_card(
        Path(__file__).with_name("student_card.md.jinja"),
        ModelCardData(
            license="other",
            library_name="transformers",
            pipeline_tag="text-generation",
            tags=["distillation", "undo"],
            base_model=base if hub_id(base) else None,
        ),
        spec=spec,
        config=config,
        summary=summary,
        rows=rows_learned(summary),
        name=about.get("name", spec.run_id),
        iteration=about.get("iteration", 0),
        parent=public_name(parent),
        teacher=public_name(str(about.get("teacher", ""))),
        data=about.get("data", ", ".join(Path(p).name for p in spec.data)),
    )
