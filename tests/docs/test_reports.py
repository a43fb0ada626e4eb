"""The table of public reports names tests that exist."""

import re

from tests.conftest import REPO

TABLE = REPO / "tests" / "slurm" / "reports.md"


def test_each_report_names_a_test_that_exists() -> None:
    rows = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    for row in rows:
        names = re.findall(r"`(\S+\.py)::(\w+)`", row)
        assert names, row
        for file, test in names:
            assert f"def {test}(" in (TABLE.parent / file).read_text(), row
