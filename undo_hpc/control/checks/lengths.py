"""Whether rationales can become longer than training takes, told before the first of them is paid for."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest

from undo_hpc.config.schema import RunConfig
from undo_hpc.prompts import load_prompts
from undo_hpc.records import Problem
from undo_hpc.training.student_check import check_lengths

_LONGEST = 100  # problems, by characters, whose prompts are looked at


def warn_of_lengths(config: RunConfig, problems: Iterable[Problem]) -> str:
    """The warning where a prompt of training and generate.sampling.max_new_tokens together exceed train.max_length; empty where they
    cannot, and where no teacher writes. Refusing would be too much: most rationales stay far below their limit.

    Args:
        problems: the training problems; none where they are not known yet.

    Raises:
        ConfigError: the student's prompt templates cannot be read.
    """
    if config.method.condition == "ground_truth":
        return ""
    prompts, instruction = load_prompts(config.student.prompt), config.student.instruction
    longest = nlargest(_LONGEST, (problem.problem for problem in problems), key=len)
    return check_lengths(config, [prompts.student(text, instruction) for text in longest])
