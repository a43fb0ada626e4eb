"""Charts of a campaign hold the names of its arms, however long they may be."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from undo_hpc.campaign.charts import NAMES, WIDTH, curves, forest

CHAR = 6.7  # pixels of a letter in the charts' size, at most in the mean
LONG = ("undo_" + "x" * 36, "blind_with_the_longest_name_of_all_arms_1")


def comparison(a: str, b: str) -> Any:
    difference = SimpleNamespace(low=-0.1, high=0.2, mean=0.05)
    return SimpleNamespace(a=a, b=b, difference=difference, claimed=False, p=0.3)


def test_the_name_of_a_pair_begins_inside_of_the_chart() -> None:
    chart = forest([comparison(*LONG), comparison("undo_on_policy", "blind_on_policy"), comparison("a", "b")])
    names = re.findall(rf'x="{NAMES - 12}" y="[\d.]+" text-anchor="end">([^<]+)<', chart)
    assert len(names) == 5 and "a \u2212 b" in names
    assert all(len(name) * CHAR <= NAMES + 15 for name in names), names
    assert LONG[0] in chart, "whole in the tip"


def test_the_name_of_an_arm_ends_inside_of_the_chart() -> None:
    chart = curves({arm: [{0: 0.5, 1: 0.6}] for arm in LONG})
    names = re.findall(rf'x="{WIDTH - 142}" y="[\d.]+">([^<]+)<', chart)
    assert len(set(names)) == 2 and all(len(name) * CHAR <= 142 for name in names), names
