"""Compact tables over all problems: the same as a dictionary and a sorted list, in a bounded number of bytes."""

from __future__ import annotations

import hashlib
import random

import pytest

from undo_hpc.data import many_ids
from undo_hpc.data.many_ids import FirstNumbers, SortedDigests


def test_first_numbers_are_those_of_a_dictionary() -> None:
    rng = random.Random(5)
    pool = [rng.getrandbits(64) for _ in range(4_000)] + [0, 1, 256, 2**64 - 1]
    pool += [k << 16 for k in range(1_000)]  # many that begin at the same place
    table, known = FirstNumbers(), dict[int, int]()
    for number in range(12_000):
        who = rng.choice(pool)
        assert table.setdefault(who, number) == known.setdefault(who, number)


def test_an_id_takes_few_bytes() -> None:
    rng = random.Random(6)
    table, count = FirstNumbers(), 60_000
    for number in range(count):
        table.setdefault(rng.getrandbits(64), number)
    held = sum(len(array) * array.itemsize for array in (*table._ids, *table._numbers))
    assert held <= 19 * count


@pytest.mark.parametrize("held", [1 << 20, 32 * 100, 32])
def test_sorted_digests_are_those_of_a_list(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_ids, "HELD", held)
    found = SortedDigests()
    digests = [hashlib.sha256(str(k % 900).encode()).digest() for k in range(1_000)]
    for digest in digests:
        found.add(digest)
    expected = hashlib.sha256(b"".join(sorted(digests))).hexdigest()
    assert found.hexdigest() == expected == found.hexdigest()
    assert SortedDigests().hexdigest() == hashlib.sha256(b"").hexdigest()
