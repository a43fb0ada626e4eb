"""Work by hand: which tasks the words name."""

import pytest

from undo_hpc.control.by_hand import parse_indices
from undo_hpc.errors import ConfigError


def test_numbers_and_ranges() -> None:
    assert parse_indices("", 3) == (0, 1, 2)
    assert parse_indices("2,0-1,1", 3) == (0, 1, 2)
    for wrong in ("3", "a", "2-1", "-1", "0,,1"):
        with pytest.raises(ConfigError):
            parse_indices(wrong, 3)
