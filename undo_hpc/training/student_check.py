"""What training will make of rationales, checked on a login node before the first of them is paid for. Loads no torch.

Read are the student's chat template and tokenizer, a few files; of a model on the Hub they are fetched where they are not in the
cache.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path

from undo_hpc.chat.template import ChatTemplate, RenderError, prints_date
from undo_hpc.chat.training_text import TurnWriter, sample_turns
from undo_hpc.config.parts import asks
from undo_hpc.config.schema import ModelConfig, RunConfig, StudentConfig
from undo_hpc.errors import ConfigError, DataError
from undo_hpc.models.resolve import resolve_model, text_settings
from undo_hpc.prompts import load_prompts
from undo_hpc.training.loss_tokens import load_tokenizer

_FILES = ("tokenizer_config.json", "chat_template.jinja", "tokenizer.json")
_MEASURED = 100  # the longest prompts by characters, which are counted in tokens
_CHARS_A_TOKEN = 3.0  # where no tokenizer is at hand
_without_hub: list[
    str
] = []  # files that the Hub could not be asked for; huggingface_hub waits half a minute to find that out


def tokenizer_files(model: ModelConfig) -> Path | None:
    """The folder with a model's tokenizer files: local, or in the Hub's cache after fetching them. None where that fails."""
    place = resolve_model(model.model)
    if Path(place).is_dir():
        return Path(place)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    folder = None
    for name in _FILES:
        try:
            found = hf_hub_download(
                place, name, revision=model.revision or None, local_files_only=bool(_without_hub)
            )
            folder = Path(found).parent
        except EntryNotFoundError as error:
            if type(error).__name__ == "LocalEntryNotFoundError":  # not in the cache, and no network
                _without_hub.append(f"{place}/{name}")
                return folder
        except (HfHubHTTPError, OSError, ValueError):
            return folder
    return folder


def template_of(model: ModelConfig, *, date: str = "") -> ChatTemplate | None:
    """A model's chat template with the arguments of the configuration; None where its files cannot be had here.

    Raises DataError where its tokenizer has none.
    """
    folder = tokenizer_files(model)
    if folder is None or not any((folder / name).is_file() for name in _FILES[:2]):
        return None
    try:
        return ChatTemplate.load(folder, kwargs=model.chat_template_kwargs, date=model.date or date)
    except DataError:
        if (folder / "tokenizer.json").is_file():
            raise
        return None  # a tokenizer of another kind (tekken.json), which only transformers reads


def writer_of(model: StudentConfig, template: ChatTemplate) -> TurnWriter:
    """Writes the training texts of a student. Raises RenderError where its template cannot render a prompt."""
    return TurnWriter(
        template.render,
        source=template.source,
        eos_token=template.eos_token,
        policy=model.reasoning,
        system_prompt=model.system_prompt,
    )


def check_student(config: RunConfig, *, date: str = "") -> list[str]:
    """Whether the student's chat template can be trained, and what training will do that is not obvious.

    Args:
        date: the day that a template with a date prints; empty for today.

    Does nothing where the template cannot be read here (see `template_of`): training checks it. Returns sentences worth a reader's attention; most often none.

    Raises:
        DataError: no rationale could be learned with this template; the hint says what to change.
        ConfigError: see `check_attention`.
    """
    model = config.student
    check_attention(config)
    template = template_of(model, date=date)
    if template is None:
        return []
    try:
        writer = writer_of(model, template)
        prompt = template.render(writer.chat("7 + 8"), True)
    except RenderError as error:
        hint = (
            "leave student.system_prompt empty"
            if model.system_prompt
            else "fix its chat_template.jinja in a local copy"
        )
        raise DataError(f"{model.model}: its chat template cannot be rendered: {error}", hint=hint) from error
    if "7 + 8" not in prompt:
        raise DataError(
            f"{model.model}: its chat template drops the user's text",
            hint="fix its chat_template.jinja in a local copy",
        )
    if not writer.closing.strip() and not template.eos_token:
        raise DataError(
            f"{model.model}: neither its chat template nor its tokenizer has an end of turn",
            hint="set eos_token in its tokenizer_config.json",
        )
    turns = sample_turns(writer)
    if isinstance(turns["answer"], str):
        raise DataError(
            f"{model.model}: no rationale can be learned with its chat template: {turns['answer']}",
            hint="fix its chat_template.jinja in a local copy, or take another student",
        )
    notes = []
    if isinstance(turns["reasoning"], str) and model.reasoning == "keep":
        notes.append(
            f"student: rationales with reasoning will be left out of training ({turns['reasoning']}); student.reasoning: strip "
            "learns the answers behind it, and may be set in the run as it stands"
        )
    elif not isinstance(turns["reasoning"], str) and turns["reasoning"].composed:
        notes.append(
            "student: its chat template cuts or changes reasoning; training writes such turns itself, behind the template's prompt"
        )
    if prints_date(template.source) and (model.date or date):
        notes.append(
            f"student: its chat template prints the date, which is {model.date or date} throughout the run"
        )
    return notes


def check_attention(config: RunConfig) -> None:
    """Raises ConfigError where `train.attention` names one that leaves out a part of the student's own (by its config.json; before
    its first step training compares the two in any case).
    """
    attention, settings = config.train.attention, text_settings(config.student)
    if attention not in ("sdpa", "varlen"):
        return
    flaw = "caps its attention's scores" if settings.get("attn_logit_softcapping") else ""
    if settings.get("model_type") == "gpt_oss":
        flaw = "has attention sinks"
    if flaw:
        raise ConfigError(
            f"train.attention is {attention}, which leaves out a part of {config.student.model}: it {flaw}",
            hint="set train.attention to auto or eager",
        )


def student_notes(config: RunConfig, problems: Sequence[str], *, date: str = "") -> list[str]:
    """What training will do with rationales that is not obvious, templates and lengths together, for a launch and its dry run.

    Args:
        problems: the texts of the training problems.
        date: as of `check_student`.

    Raises:
        DataError: see `check_student`.
    """
    prompts = load_prompts(config.student.prompt)
    longest = heapq.nlargest(_MEASURED, problems, key=len)
    turns = [prompts.student(problem, config.student.instruction) for problem in longest]
    notes = check_student(config, date=date)
    return [*notes, *filter(None, [check_lengths(config, turns)])]


def check_lengths(config: RunConfig, user_turns: Sequence[str] = ()) -> str:
    """Whether rationales can become longer than training takes; the sentence to show, empty where they cannot.

    Args:
        user_turns: the student's prompts before the chat template; the longest is measured in the student's tokens.
    """
    if not asks(config, "teacher"):  # no teacher writes
        return ""
    sampling, limit = config.generate.sampling, config.train.max_length
    most_new = max(sampling.max_new_tokens, *sampling.max_new_tokens_by_iteration.values(), 0)
    longest, exact = _longest_prompt(config, user_turns)
    if longest + most_new <= limit:
        return ""
    what = "cut at their end" if config.train.too_long == "truncate" else "left out of training"
    about = "" if exact else "about "
    prompts = f" behind a prompt of {about}{longest:,}" if user_turns else ""
    return (
        f"train.max_length is {limit:,}, and a rationale may have up to {most_new:,} tokens (generate.sampling.max_new_tokens){prompts}: "
        f"longer rows are {what}; raise train.max_length to {longest + most_new:,}, or lower generate.sampling.max_new_tokens"
    )


def _longest_prompt(config: RunConfig, user_turns: Sequence[str]) -> tuple[int, bool]:
    """Tokens of the longest prompt with its chat template, and whether they were counted rather than estimated."""
    longest = sorted(user_turns, key=len, reverse=True)[:_MEASURED]
    if not longest:
        return 0, False
    folder = tokenizer_files(config.student)
    try:
        tokenizer = load_tokenizer(folder) if folder else None
        assert folder is not None and tokenizer is not None
        template = ChatTemplate.load(folder, kwargs=config.student.chat_template_kwargs, date="2026-01-01")
        system = config.student.system_prompt
        first = [{"role": "system", "content": system}] if system else []
        texts = [template.render([*first, {"role": "user", "content": turn}], True) for turn in longest]
        return max(len(each.ids) for each in tokenizer.encode_batch(texts, add_special_tokens=False)), True
    except Exception:  # noqa: BLE001 -- an estimate stands in for whatever cannot be read (tokenizers raises bare Exception)
        return round(max(map(len, longest)) / _CHARS_A_TOKEN), False
