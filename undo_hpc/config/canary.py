"""The configuration of the canary: a few problems first, on one task, before a teacher's first array is released. See docs/parts.md."""

from __future__ import annotations

from undo_hpc.config.fields import Section, runtime_field


class CanaryConfig(Section):
    """What is tried before a teacher's first array, and what it must reach. None of it touches a result."""

    problems: int | None = runtime_field(
        None,
        "problems that one task answers before the first array is released; null: 16 on a cluster where the array has more than 4 "
        "tasks; 0 for none",
        ge=0,
    )
    min_right: float = runtime_field(0.1, "least share of right attempts", ge=0, le=1)
    max_cut_off: float = runtime_field(
        0.5, "largest share of attempts that are cut off at max_new_tokens", ge=0, le=1
    )
    min_encoded: float = runtime_field(
        0.5, "least share of the right rationales that the student's encoding takes", ge=0, le=1
    )
    min_tokens_per_second: float = runtime_field(
        0.0, "least speed of the task, with that few requests at once; 0 asks for none", ge=0
    )
