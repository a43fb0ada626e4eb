"""Names that mean something in mathematics, so that they are neither a unit nor a product of letters."""

from __future__ import annotations


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


GREEK = _set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
# Functions of one argument, as ASCII answers and LaTeX write them.
FUNCTIONS = _set(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc asin acos atan sinh cosh tanh coth sech csch "
    "asinh acosh atanh ln log lg exp sqrt cbrt abs floor ceil sgn sign det Re Im arg"
)
MULTI_ARGUMENT = _set("gcd lcm max min binom")
CONSTANTS = _set("pi infty infinity oo")
NAMES = GREEK | FUNCTIONS | MULTI_ARGUMENT | CONSTANTS | _set("mod inf cdot times frac")
