"""Characters that look alike, brought to one form: Unicode NFKC, and a table of what NFKC leaves or destroys.

The result uses ASCII and LaTeX commands only, as far as mathematics goes. Words of other scripts stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from undo_hpc.grading.names import word_list

_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣʸ", "0123456789+-=()nixy")
_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₖₓ", "0123456789+-=()nkx")
_SUPER_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣʸ]+")
_SUB_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₖₓ]+")
_VULGAR = re.compile(r"(\d?)\s?([¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[A-Za-zπ])?")
_ROOT_NAMES = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_INVISIBLE = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff\u2611\u2705\u274c\u274e\u2713\u2714"
    "\U0001f000-\U0001faff]"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff]")
# "\frac" whose backslash was eaten by a careless string literal: a control character and the rest of the command.
_EATEN = re.compile(
    "\\\\?([\x0c\x08\t\r\x0b\x07])(rac|oxed|egin|inom|ext|imes|heta|frac|ight|ho|ec)(?![a-z])"
)
_EATEN_LETTER = {"\x0c": "f", "\x08": "b", "\t": "t", "\r": "r", "\x0b": "v", "\x07": "a"}
_COMMANDS = word_list(
    "α alpha β beta γ gamma δ delta ε epsilon ζ zeta η eta θ theta ι iota κ kappa λ lambda μ mu ν nu ξ xi π pi ρ rho "
    "σ sigma τ tau υ upsilon φ phi ϕ phi χ chi ψ psi ω omega Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Φ Phi "
    "Ψ Psi Ω Omega ϵ epsilon ϑ theta ∞ infty ≤ le ≥ ge ≦ le ≧ ge ⩽ le ⩾ ge ≠ ne ≈ approx ≃ approx ≅ approx ∪ cup ∩ cap "
    "∖ setminus ∈ in ∉ notin ∅ emptyset ⌀ emptyset ± pm ∓ mp × times ✕ times ✖ times ⨯ times ÷ div · cdot ⋅ cdot ∙ cdot "
    "• cdot ∗ cdot ⟨ langle ⟩ rangle ⌊ lfloor ⌋ rfloor ⌈ lceil ⌉ rceil … ldots ⋯ cdots ∑ sum ∏ prod ∫ int → to ∧ land "
    "∨ lor ℝ mathbb{R} ℤ mathbb{Z} ℚ mathbb{Q} ℕ mathbb{N} ℂ mathbb{C} ≡ equiv ∝ propto ∠ angle △ triangle ∣ mid"
)
_PLAIN = word_list(
    "− - ‐ - ‑ - ‒ - – - — - ― - ﹣ - ⁄ / ∕ / ⟋ / ∶ : ： : ， , 、 , 。 . ； ; “ \" ” \" ‘ ' ’ ' ′ ' ″ '' ´ ' º ° ˚ ° ％ % "
    "⟦ [ ⟧ ] ˄ ^ ˆ ^ ＝ = ﹢ + ＋ + ٫ . ٬ ,"
)
_TABLE = {ord(sign): f"\\{name} " for sign, name in zip(_COMMANDS[::2], _COMMANDS[1::2], strict=True)} | {
    ord(sign): plain for sign, plain in zip(_PLAIN[::2], _PLAIN[1::2], strict=True)
}


def _vulgar(match: re.Match[str]) -> str:
    value = Fraction(unicodedata.numeric(match[2])).limit_denominator(10)
    return rf"{match[1]}\frac{{{value.numerator}}}{{{value.denominator}}}"


def _root(match: re.Match[str]) -> str:
    return _ROOT_NAMES[match[1]] + (f"{{{match[2]}}}" if match[2] else "")


def unify(text: str) -> str:
    """The text with look-alikes unified; control, invisible and private characters are dropped."""
    if "\x0c" in text or "\x08" in text or "\t" in text or "\r" in text:
        text = _EATEN.sub(lambda m: "\\" + _EATEN_LETTER[m[1]] + m[2], text)
    if text.isascii():
        return _CONTROL.sub("", text)
    text = _CONTROL.sub("", _INVISIBLE.sub("", text))
    text = _SUPER_RUN.sub(lambda m: "^{" + m[0].translate(_SUPER) + "}", text)
    text = _SUB_RUN.sub(lambda m: "_{" + m[0].translate(_SUB) + "}", text)
    text = _ROOT.sub(_root, _VULGAR.sub(_vulgar, text))
    text = text.translate(_TABLE)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_TABLE)
        text = "".join(
            str(unicodedata.digit(c)) if not c.isascii() and unicodedata.category(c) == "Nd" else c
            for c in text
        )
    return text
