"""All checks before a start, as one list: what is checked, and when.

`launch` refuses a new run by them, `resume` an existing one; a dry run does the same checks and shows all errors at once; the
doctor shows its part beside what it finds on the machine. What needs the model in memory is checked by training before its first
step (`training.preflight`), and what only the scheduler knows when the jobs are submitted: see `NOT_BEFORE_A_START`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from undo_hpc.config.schema import RunConfig
from undo_hpc.control.checks import place, settings, sources
from undo_hpc.control.checks.finding import Attention, Finding, Level, NotChecked, Notice
from undo_hpc.errors import UndoError
from undo_hpc.pipeline.layout import Layout
from undo_hpc.stages.prepare import Inputs, Sources, read_inputs
from undo_hpc.training.deepspeed_settings import read_settings

__all__ = [
    "CHECKS",
    "NOT_BEFORE_A_START",
    "Attention",
    "Check",
    "Finding",
    "Level",
    "NotChecked",
    "Notice",
    "Subject",
    "find_problems",
    "require",
    "when_for",
]

log = logging.getLogger(__name__)
When = Literal["launch", "resume", "doctor"]


@dataclass(frozen=True)
class Subject:
    """What is checked: a configuration, and the directory that its run has or will have."""

    config: RunConfig
    run_dir: Path
    inputs: Inputs | None = None  # where a launch has read them already

    @cached_property
    def sources(self) -> Sources | None:
        """The data, read once. Raises ConfigError or DataError."""
        return self.inputs.sources if self.inputs else sources.check_data(self.config)


@dataclass(frozen=True)
class Check:
    """One check. `run` raises UndoError that says what is wrong and what to do; a list that it returns holds warnings.

    Attributes:
        by_prepare: a launch does not do it by itself: `stages.prepare` does, with the same functions, when it reads the data.
    """

    what: str
    run: Callable[[Subject], object]
    when: tuple[When, ...]
    by_prepare: bool = False


_NEW: tuple[When, ...] = ("launch", "doctor")
_ALWAYS: tuple[When, ...] = ("launch", "resume", "doctor")

CHECKS = (
    Check("run directory", lambda s: place.check_run_dir(s.config, s.run_dir), ("launch", "resume")),
    Check("plug-ins", lambda s: settings.check_plugins(s.config), _ALWAYS),
    Check("packages", lambda s: settings.check_packages(s.config), _ALWAYS),
    Check("teacher", lambda s: settings.check_teacher(s.config), _ALWAYS),
    Check("key file", lambda s: settings.check_key_files(s.config), _ALWAYS),
    Check("evaluation", lambda s: settings.check_evaluation(s.config), _NEW),
    Check("context", lambda s: settings.check_contexts(s.config), _NEW),
    Check("scorer", lambda s: settings.check_scorer(s.config), _NEW),
    Check("prompts", lambda s: settings.check_prompts(s.config), _NEW),
    Check("DeepSpeed", lambda s: read_settings(s.config.train.deepspeed), _NEW),
    Check("cluster", lambda s: settings.check_cluster(s.config), _ALWAYS),
    Check("Hub", lambda s: settings.check_hub(s.config), _ALWAYS),
    Check("stopping rule", lambda s: settings.check_stop(s.config), _NEW),
    Check("models", lambda s: sources.check_models(s.config), _NEW, by_prepare=True),
    Check("teacher's chat template", lambda s: sources.check_teacher_template(s.config), _NEW),
    Check("student's chat template", lambda s: sources.check_student_template(s.config), _NEW),
    Check("Hub data", lambda s: sources.check_hub_sources(s.config), _NEW, by_prepare=True),
    Check("data", lambda s: s.sources, _NEW, by_prepare=True),
    Check("student", lambda s: sources.describe_training(s.config, s.sources), _NEW),
    Check("frozen problems", lambda s: place.check_frozen_problems(s.run_dir), ("resume",)),
    Check("source of the data", lambda s: place.check_source_files(s.run_dir), ("resume",)),
    Check("added benchmarks", lambda s: sources.check_added(s.config, s.run_dir), ("resume",)),
    Check("recorded models", lambda s: place.check_recorded_models(s.config, s.run_dir), ("resume",)),
    Check("iterations", lambda s: place.check_iterations(s.config, s.run_dir), ("resume",)),
    Check("queue", lambda s: place.check_queue(s.config, s.run_dir), ("resume",)),
    Check("budget", lambda s: place.check_next_iteration(s.config, s.run_dir), ("resume",), by_prepare=True),
)
NOT_BEFORE_A_START = (
    "whether the cluster accepts the jobs and its nodes see the run directory (at launch)",
    "whether the engine loads the model (first task of generate)",
    "vocabulary, template, packing and memory of the longest micro-batch (before the first step of train)",
)


def when_for(run_dir: Path) -> When:
    """Whether a start there would be a launch, or would resume a run."""
    return "resume" if Layout(run_dir.resolve()).prepared.exists() else "launch"


def require(config: RunConfig, run_dir: Path) -> Inputs | None:
    """Refuses a start that could not succeed, before anything is written; logs warnings.

    Returns:
        What a new run is made from, read once, for `stages.prepare`; None for a run that exists.

    Raises:
        UndoError: the first check that fails; the message names the key or the file.
    """
    when = when_for(run_dir)
    subject = Subject(config, run_dir)
    checks = [check for check in CHECKS if when in check.when and not check.by_prepare]
    needs_data = [check for check in checks if check.what == "student"]
    for check in checks:
        if check not in needs_data:
            _log_warnings(check, subject)
    if when == "resume":
        return None
    inputs = read_inputs(config)
    for check in needs_data:
        _log_warnings(check, Subject(config, run_dir, inputs))
    return inputs


def _log_warnings(check: Check, subject: Subject) -> None:
    try:
        for sentence in _warnings(check.run(subject)):
            log.warning("warning: %s", sentence)
    except NotChecked as error:
        log.info("not checked: %s", error.message)
    except Attention as error:
        log.warning("warning: %s", error)


def _warnings(result: object) -> list[str]:
    return result if isinstance(result, list) else []


def find_problems(subject: Subject, when: When) -> Iterator[tuple[Check, UndoError]]:
    """Every check that fails, with its error; a key that several checks read is told once. What is no reason to refuse is a Notice."""
    told: set[str] = set()
    for check in CHECKS:
        if when not in check.when:
            continue
        found: list[UndoError] = []
        try:
            found += [Attention(sentence) for sentence in _warnings(check.run(subject))]
        except UndoError as error:
            found.append(error)
        for each in found:
            if each.message not in told:
                yield check, each
            told.add(each.message)
