"""The tables of `tables.txt` as sets and maps: names of mathematics, look-alikes, units, words."""

from __future__ import annotations

from pathlib import Path


def _sections() -> dict[str, list[str]]:
    """The lines of each section, without comments."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in Path(__file__).with_name("tables.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and " : " not in line:
            lines = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return found


_SECTIONS = _sections()


def word_set(names: str) -> frozenset[str]:
    """The words of a string as a set."""
    return frozenset(names.split())


def words(section: str) -> list[str]:
    """The words of a section in their order."""
    return " ".join(_SECTIONS[section]).split()


def pairs(section: str) -> dict[str, str]:
    """The pairs `word=meaning` of a section."""
    return {
        word[0] + name: meaning for word in words(section) for name, _, meaning in [word[1:].partition("=")]
    }


def rows(section: str) -> list[list[str]]:
    """The lines of a section, each as its fields."""
    return [[field.strip() for field in line.split(" : ")] for line in _SECTIONS[section]]


GREEK, FUNCTIONS, MULTI_ARGUMENT = (frozenset(words(s)) for s in ("greek", "functions", "functions of several"))  # fmt: skip
NAMES = GREEK | FUNCTIONS | MULTI_ARGUMENT | word_set("pi infty infinity oo inf mod cdot times frac")
RENAMED = pairs("renamed")
DROPPED, TEXT_COMMANDS, MARKS = (frozenset(words(s)) for s in ("dropped", "text commands", "marks"))
RELATIONS, CONNECTORS, NO_FACTORS = (frozenset(words(s)) for s in ("relations", "connectors", "no factors"))
SHORT_WORDS, FILLER, NO_UNITS, REJECTS = (frozenset(words(s)) for s in ("short words", "filler", "no units", "rejects"))  # fmt: skip
NUMBER_WORDS = {word: i for i, word in enumerate(words("units of numbers"))}
NUMBER_WORDS |= {word: 10 * i for i, word in enumerate(words("tens"), start=2)}
SCALES = {name + s: int(size) for name, size in pairs("scales").items() for s in ("", "s")}
MONTHS = words("months")
DOMAINS = [(said.split(), name) for said, name in rows("domains")]
