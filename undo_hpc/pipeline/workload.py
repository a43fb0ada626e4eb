"""PURE: how much the teacher will read and write in an iteration, told before it begins, and what the figure rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from undo_hpc.config.distill import scorer
from undo_hpc.config.parts import has_rationales
from undo_hpc.config.schema import RunConfig, SamplingConfig
from undo_hpc.system.wording import counted

GUESSED_TOKENS_PER_SECOND = 1000.0
# Tokens, prompts included, that an engine scores in the time that it writes one, where nothing is measured yet (P13 in docs/performance.md).
SCORED_A_WRITTEN = {"transformers": 6.0, "vllm": 3.0, "openai": 3.0}
CHARACTERS_PER_TOKEN = 3.5  # a round figure for English with mathematics


@dataclass(frozen=True)
class Measured:
    """What the teacher of the last iteration needed, or of the canary of this one, with its number of problems. `tokens_per_second` is of
    one task, over its whole time of answering; a canary's has few requests at once, so it is a lower bound."""

    iteration: int
    attempts_per_problem: float
    tokens_per_attempt: float
    tokens_per_second: float
    canary: int = 0

    @classmethod
    def from_metrics(cls, metrics: dict[str, Any]) -> Measured | None:
        """From an iteration's metrics.json; None where it wrote nothing, or was not timed."""
        return cls.from_counts(metrics.get("generate", {}), int(metrics.get("iteration", 0)))

    @classmethod
    def from_counts(cls, generated: Mapping[str, Any], iteration: int, canary: int = 0) -> Measured | None:
        """From what the tasks of an iteration counted."""
        if not (
            generated.get("rows")
            and generated.get("problems")
            and generated.get("seconds")
            and generated.get("new_tokens")
        ):
            return None
        return cls(
            iteration,
            generated["rows"] / generated["problems"],
            generated["completion_tokens"] / generated["rows"],
            generated["new_tokens"] / generated["seconds"],
            canary,
        )


def scoring_speed(metrics: dict[str, Any]) -> float:
    """Tokens that a task of `score` read in a second, by an iteration's metrics.json; 0 where nothing was scored or timed."""
    scored = metrics.get("score") or {}
    return scored["new_tokens"] / scored["seconds"] if scored.get("seconds") else 0.0


@dataclass(frozen=True)
class Workload:
    """Tokens of an iteration's generation.

    Attributes:
        prompt_tokens: to be read; 0 where the prompts are not known yet.
        completion_tokens: to be written, as expected.
        most_completion_tokens: if every attempt were needed and went to its limit.
        tokens_per_second: written by one task.
        basis: where the figures come from, in words.
        guessed: the speed is no measured one: no time is told from it.
        score_tokens: to be read and scored, prompts included; 0 for the signal text.
        score_tokens_per_second: of one task.
    """

    prompt_tokens: int
    completion_tokens: int
    most_completion_tokens: int
    tokens_per_second: float
    basis: str
    guessed: bool = False
    score_tokens: int = 0
    score_tokens_per_second: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """As it stands in plan.json; nothing of scores where there are none, for older versions do not know them."""
        return {k: v for k, v in asdict(self).items() if self.score_tokens or not k.startswith("score")}

    def in_words(self, tasks: int) -> str:
        """For the user, with the time that `tasks` tasks at once would take."""
        read = f"{self.prompt_tokens:,} tokens to read and " if self.prompt_tokens else ""
        each = _duration(self.completion_tokens / self.tokens_per_second / max(1, tasks) / 60)
        time = f"about {each} for {tasks} task{'s'[: tasks != 1]} at once"
        if self.guessed:
            time = "how long is unknown until measured"
        scored = ""
        if self.score_tokens:
            rate, writing = self.score_tokens_per_second, self.completion_tokens / self.tokens_per_second
            scored = f". It then scores about {self.score_tokens:,} tokens, prompts included"
            if not self.guessed:
                scored += f": {_duration(self.score_tokens / rate / 60)} of one task at {rate:,.0f} tokens/s"
            if writing:
                share = self.score_tokens / rate / writing
                scored += f"; about {share:.0%} of the time of writing, at {rate / self.tokens_per_second:.1f} tokens for each one written"
        return (
            f"about {read}{self.completion_tokens:,} {'tokens ' if not read else ''}to write (at most {self.most_completion_tokens:,}); "
            f"{time}. {self.basis}{scored}"
        )


def _duration(minutes: float) -> str:
    if minutes >= 180:
        return f"{minutes / 60:,.0f} hours"
    return f"{minutes:,.0f} minutes" if minutes >= 1.5 else counted(round(60 * minutes), "second")


def longest(sampling: SamplingConfig, iteration: int) -> int:
    """Max new tokens of a completion in an iteration."""
    begun = [first for first in sampling.max_new_tokens_by_iteration if first <= iteration]
    return sampling.max_new_tokens_by_iteration[max(begun)] if begun else sampling.max_new_tokens


def estimate(
    config: RunConfig,
    iteration: int,
    problems: int,
    *,
    prompt_characters: float = 0.0,
    measured: Measured | None = None,
    score_rows: int = 0,
    scoring: float = 0.0,
) -> Workload:
    """The workload of an iteration.

    Args:
        problems: number of problems the teacher writes for.
        score_rows: number of texts that it scores.
        scoring: `scoring_speed` of the last iteration.
        prompt_characters: mean length of a prompt; 0 where no prompt is known.
        measured: what the last iteration needed, where there was one.
    """
    settings = config.generate
    if not iteration and has_rationales(config):
        return Workload(0, 0, 0, GUESSED_TOKENS_PER_SECOND, "The rationales exist already")
    limit = longest(settings.sampling, iteration)
    if measured:
        attempts = problems * measured.attempts_per_problem
        per_attempt = min(float(limit), measured.tokens_per_attempt)
        where = (
            f"by the canary ({measured.canary} problems)"
            if measured.canary
            else f"in iteration {measured.iteration}"
        )
        basis = (
            f"Answers as measured {where}: {measured.attempts_per_problem:.2f} attempts a problem "
            f"of {measured.tokens_per_attempt:,.0f} tokens"
        )
    else:
        attempts, per_attempt = float(problems * settings.samples), limit / 2
        basis = f"A guess: {settings.samples} attempt{'s'[: settings.samples != 1]} a problem of half of max_new_tokens ({limit:,})"
    speed, source = GUESSED_TOKENS_PER_SECOND, "guessed"
    if measured:
        few = f" with {measured.canary} problems at once; more are faster" if measured.canary else ""
        speed, source = measured.tokens_per_second, f"measured{few}"
    if settings.tokens_per_second:
        speed, source = settings.tokens_per_second, "generate.tokens_per_second"
    shards = "; shards are cut for" if source == "guessed" else ","
    basis += f"{shards} {speed:,.0f} tokens/s a task ({source})"
    if prompt_characters:
        basis += f"; prompts at {CHARACTERS_PER_TOKEN:g} characters a token"
    engine = scorer(config.distill, settings.engine).name
    # A prompt that is not known is taken to be as long as a tenth of the text.
    row_tokens = per_attempt + (prompt_characters / CHARACTERS_PER_TOKEN or per_attempt / 10)
    return Workload(
        round(attempts * prompt_characters / CHARACTERS_PER_TOKEN),
        round(attempts * per_attempt),
        problems * settings.max_attempts * limit,
        speed,
        basis,
        source == "guessed",
        round(score_rows * row_tokens),
        config.distill.tokens_per_second or scoring or SCORED_A_WRITTEN.get(engine, 3.0) * speed,
    )
