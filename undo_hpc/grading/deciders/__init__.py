"""One decider a file: each says True, False, or None where the question is not its own. `order.py` lists them."""

from __future__ import annotations

from collections.abc import Callable

# Compares two parts of an answer with the whole chain of deciders: gold part, predicted part -> equal or not.
Compare = Callable[[str, str], bool]


class NeedsAlgebra(Exception):
    """No cheap decider can say; the answer goes to a process that may be killed."""


class OutOfBounds(Exception):
    """The static guard refuses: too long, too deep, or too large to compute."""
