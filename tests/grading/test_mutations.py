"""Near misses of gold answers are different, rewrites are equal: on our own golds anywhere, on real ones where they are."""

from __future__ import annotations

from tests.grading.forms import FORMS
from tests.grading.own_cases import CASES

OWN = sorted({gold for _, gold, *_ in (*CASES, *FORMS) if 0 < len(gold) < 200})
