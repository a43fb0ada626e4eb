"""Names that mean something in mathematics, so that they are neither a unit nor a product of letters."""

from __future__ import annotations

GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split()
)
# Functions of one argument, as ASCII answers and LaTeX write them.
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc asin acos atan sinh cosh tanh coth sech csch "
    "asinh acosh atanh ln log lg exp sqrt cbrt abs floor ceil sgn sign det Re Im arg".split()
)
MANY = frozenset("gcd lcm max min binom C".split()) - {"C"}
CONSTANTS = frozenset(["pi", "infty", "infinity", "oo"])
NAMES = GREEK | FUNCTIONS | MANY | CONSTANTS | {"mod", "inf", "cdot", "times", "frac"}
