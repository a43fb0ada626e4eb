"""How often does a comparison claim what is not there, and what does it see? Synthetic arms whose truth is known: `python -m tests.bench.claims
[TRIALS]` prints the table of docs/campaigns.md.

Two arms answer 1,000 problems under each seed. A problem is hard or easy for all; an arm is better at some problems and worse at others, by
as much as the other arm (no arm is better over all problems); students of one arm differ from seed to seed. In `skewed` seeds they only lose, in
`a collapse` one seed in five loses much.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache

import numpy as np

from undo_hpc.method.crossed import crossed, t_quantile

PROBLEMS = 1000
EFFECT = 0.04
# name, spread of seeds (logits), spread of an arm over problems (logits)
WORLDS = (
    ("seeds differ by nothing", 0.0, 0.3),
    ("as in the tiny world", 0.06, 0.3),
    ("twice that", 0.12, 0.3),
    ("five times that", 0.3, 0.3),
    ("skewed", 0.3, 0.3),
    ("a collapse", 0.15, 0.3),
)


def answers(
    rng: np.random.Generator, name: str, seeds: int, of_seeds: float, of_problems: float
) -> np.ndarray:
    """Differences of two equal arms, of shape (seeds, problems)."""
    talent = rng.normal(0, 2, PROBLEMS)
    right = []
    for _ in range(2):
        own = of_seeds * rng.normal(size=seeds)
        if name == "skewed":
            own = -of_seeds * rng.exponential(size=seeds)
        elif name == "a collapse":
            own = -4 * of_seeds * (rng.random(seeds) < 0.2)
        level = talent + own[:, None] + rng.normal(0, of_problems, PROBLEMS)
        right.append(rng.random((seeds, PROBLEMS)) < 1 / (1 + np.exp(-level)))
    return right[0].astype(float) - right[1]


def bootstrap(rng: np.random.Generator, table: np.ndarray) -> tuple[float, float]:
    """The interval that the campaigns had before: percentiles of a bootstrap over problems and seeds."""
    seeds, problems = table.shape
    of_problems = rng.multinomial(problems, np.full(problems, 1 / problems), size=400)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=400)
    means = ((of_problems @ table.T) * of_seeds).sum(axis=1) / table.size
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@cache
def quantile(tenths: int) -> float:
    """97.5 % of Student's t with so many tenths of a degree of freedom."""
    return t_quantile(0.05, tenths / 10)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a row for each world and number of seeds."""
    given = sys.argv[1:] if argv is None else argv
    trials = int(given[0]) if given else 2000
    rng = np.random.default_rng(0)
    print(
        "| students | seeds | each seed's difference varies by, points | false claims, % | of the bootstrap, % | half of the interval, points | "
        f"{100 * EFFECT:.0f} points seen, % |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, of_seeds, of_problems in WORLDS:
        for seeds in (3, 4, 5, 6, 8):
            false = seen = wrong = 0
            halves, spreads = [], []
            for trial in range(trials):
                table = answers(rng, name, seeds, of_seeds, of_problems)
                found = crossed(table)
                half = quantile(int(10 * min(found.freedom, 500))) * found.error
                false += abs(found.mean) > half
                seen += found.mean + EFFECT > half
                halves.append(half)
                spreads.append(table.mean(axis=1).var(ddof=1))
                if trial % 4 == 0:
                    low, high = bootstrap(rng, table)
                    wrong += not low <= 0 <= high
            print(
                f"| {name} | {seeds} | {100 * np.mean(spreads) ** 0.5:.1f} | {100 * false / trials:.1f} | {400 * wrong / trials:.1f} | "
                f"{100 * np.mean(halves):.1f} | {100 * seen / trials:.0f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
