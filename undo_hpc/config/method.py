"""The choices of the method, and the presets that name whole sets of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator

from undo_hpc.config.fields import Section, result_field, wrong_key

Preset = Literal[
    "undo", "undo_paper", "undo_hint", "blind", "shuffled", "one_shot", "ground_truth", "start_previous", "soft", "on_policy",
    "undo_on_policy", "blind_on_policy", "shuffled_on_policy"
]  # fmt: skip
# What a preset sets; a key that is given beside it wins. `undo` is the defaults. `undo_paper` follows the paper (arXiv 2504.02521)
# as far as its recipe is known: the number of shown tuples is not, and they come from diagnosis, for validation decides.
METHOD_PRESETS: dict[str, dict[str, Any]] = {
    "undo": {},
    "undo_paper": {"regenerate": "all", "history": "all", "show_score": True, "examples": 2},
    "undo_hint": {"hint": "step"},
    "blind": {"condition": "blind"},
    "shuffled": {"condition": "shuffled"},
    "one_shot": {"condition": "one_shot"},
    "ground_truth": {"condition": "ground_truth"},
    "start_previous": {"start_from": "previous"},
    "soft": {"signal": "soft"},
    "on_policy": {"signal": "on_policy", "condition": "one_shot", "start_from": "previous"},
    "undo_on_policy": {"signal": "on_policy", "condition": "undo", "start_from": "previous"},
    "blind_on_policy": {"signal": "on_policy", "condition": "blind", "start_from": "previous"},
    "shuffled_on_policy": {"signal": "on_policy", "condition": "shuffled", "start_from": "previous"},
}


class MethodConfig(Section):
    """The choices that the paper (arXiv 2504.02521) leaves open, and the controls of a sound experiment."""

    preset: Preset = result_field(
        "undo",
        "a named set of the choices below; a key that is given beside it wins. undo: the defaults; undo_paper: the paper's recipe "
        "as far as it is known; undo_hint: the failing step is pointed out; the others are controls",
    )
    condition: Literal["undo", "blind", "shuffled", "one_shot", "ground_truth"] = result_field(
        "undo",
        "what the teacher sees when it refines: the student's answer (undo), nothing of it (blind), another problem's (shuffled); "
        "one_shot never refines; ground_truth learns from the data's own solutions",
    )
    signal: Literal["text", "soft", "on_policy"] = result_field(
        "text",
        "what the student learns from: the teacher's text; that text with the teacher's log-probabilities (soft); its own answers with "
        "the teacher's log-probabilities (on_policy), the teacher seeing what `condition` has it write, never the answer that it scores",
    )
    errors_from: Literal["diagnosis", "train", "both"] = result_field(
        "train",
        "the splits on which errors of the student are looked for; failed diagnosis problems are then learned from, too, so "
        "that the student sees problems that the controls without refinement never see",
    )
    regenerate: Literal["wrong", "wrong_and_unstable", "all"] = result_field(
        "wrong",
        "which problems get a new rationale: those with a wrong answer (of several samples, one is enough, so wrong_and_unstable is the "
        "same today), or all",
    )
    history: Literal["last", "all"] = result_field(
        "last",
        "what is shown of a problem's past: its last rationale and the student's answer, or those of all iterations",
    )
    show_score: bool = result_field(
        False,
        "show the score of each attempt (share of the student's answers that are right) beside its verdict",
    )
    hint: Literal["none", "kind", "step"] = result_field(
        "none",
        "what of the diagnosis is shown: nothing, the kind of error, or the step that fails (found without the ground truth)",
    )
    examples: int = result_field(
        0, "other problems, each with its rationale and the student's answer, shown as examples", ge=0
    )
    examples_from: Literal["diagnosis", "validation"] = result_field(
        "diagnosis",
        "the split that examples are taken from; validation also chooses the iteration, so examples of it leak into the decision",
    )
    show_truth: bool = result_field(
        False,
        "show the ground truth to the teacher, and the data's own solution of a diagnosis problem that has no rationale yet",
    )
    start_from: Literal["base", "previous"] = result_field("base", "weights that each iteration starts from")
    combine: Literal["replace", "add", "best"] = result_field(
        "replace", "new rationales replace the old, stand beside them, or the better one stays"
    )
    keep: int = result_field(
        0, "rationales that are kept of a problem in an iteration; 0 for as many as generate.samples", ge=0
    )
    select: Literal["first", "shortest", "likeliest"] = result_field(
        "first",
        "which right rationales are kept where there are more: the first in order of attempt, the shortest in tokens, or those that the "
        "student, as its training begins, finds likeliest (mean log-probability a token; the stage likelihood asks evaluate.engine)",
    )
    pass_rate_min: float = result_field(
        0.0,
        "least share of a problem's generate.samples attempts that is right for it to be learned from",
        ge=0,
        le=1,
    )
    pass_rate_max: float = result_field(
        1.0, "greatest such share, e.g. 0.75 leaves out what the teacher always solves", gt=0, le=1
    )
    wrong_rationales: Literal["drop", "keep"] = result_field(
        "drop", "rationales with a wrong answer are dropped or kept"
    )

    @model_validator(mode="after")
    def _rates_are_in_order(self) -> MethodConfig:
        if self.pass_rate_min > self.pass_rate_max:
            raise ValueError(
                f"pass_rate_min ({self.pass_rate_min:g}) is above pass_rate_max ({self.pass_rate_max:g})"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _expands_its_preset(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(data.get("preset"), str):
            return data
        return METHOD_PRESETS.get(data["preset"], {}) | dict(data)


def check_selection(method: MethodConfig, samples: int, engine: str, policy: bool) -> None:
    """Refuses a selection among rationales that are never there: it would change nothing, silently; or one that nobody can make.

    Args:
        samples: `generate.samples`.
        engine: the student's.
        policy: whether less than all of generate may be enough.

    Raises:
        PydanticCustomError: see `wrong_key`.
    """
    usual = {"pass_rate_min": 0.0, "pass_rate_max": 1.0, "select": "first"}
    chosen = [name for name, value in usual.items() if getattr(method, name) != value]
    if chosen and samples < 2:
        raise wrong_key(
            ("method", chosen[0]), "needs several rationales a problem: set generate.samples above 1"
        )
    if method.keep > samples or (method.select != "first" and method.keep in (0, samples)):
        raise wrong_key(
            ("method", "keep"),
            f"is {method.keep}, of generate.samples {samples}: a selection keeps fewer than there are, at least 1",
        )
    if method.select != "likeliest":
        return
    if engine == "openai":
        raise wrong_key(
            ("method", "select"),
            "is likeliest, and evaluate.engine a server, which gives no log-probabilities of a text: take vllm or transformers, or shortest",
        )
    if policy:
        raise wrong_key(
            ("method", "select"),
            "is likeliest, which asks about the rationales of all tasks: leave cluster.policy.generate out, or take shortest",
        )
