"""Figures that tests count: printed at the end of a session, with the commit and the seeds that make it again (docs/reliability.md)."""

from __future__ import annotations

from collections import Counter

COUNTED: dict[str, Counter[str]] = {}


def count(proof: str, **figures: int) -> None:
    """Adds to the figures of a proof."""
    COUNTED.setdefault(proof, Counter()).update(figures)


def lines() -> list[str]:
    """A line a proof."""
    return [
        f"{proof}: " + ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in figures.items())
        for proof, figures in COUNTED.items()
    ]
