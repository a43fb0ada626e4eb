"""Whose job is it: what sbatch prints, and what squeue shows of a job that a site has rewritten."""

import pytest

from undo_hpc.cluster.identity import comment_of, printed_ids, read_marks, script_name
from undo_hpc.cluster.names import JobName

NAME = JobName("generate", 1, "0123abcd", 0, 0, 1, "deadbeef")
SCRIPT = f"/runs/a|b/iter_001/logs/submitted/{script_name(NAME)}"


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ("Submitted batch job 51", ["51"]),
        ("51", ["51"]),
        ("51;lab", ["51"]),
        ("Submitted batch job 51 on cluster lab", ["51"]),
        ("Your previous job 12 used little memory\nSubmitted batch job 51\nSee job 13, too", ["51"]),
        ("Submitted batch job 12\nSubmitted batch job 51\n12", ["51", "12"]),
        ("--> Verifying valid submit host (login1)...OK\nNo reservation for this job\n", []),
        ("", []),
    ],
)
def test_ids_in_what_sbatch_prints(said: str, ids: list[str]) -> None:
    assert printed_ids(said) == ids


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        (f"{NAME}|{comment_of(NAME)}|{SCRIPT}", NAME),
        (f"{NAME}|(null)|/other", NAME),
        (f"user_{NAME}|{comment_of(NAME)}|{SCRIPT}", NAME),
        (f"generate-i1-u|project 7|{SCRIPT}", NAME),
        ("job|none|/var/spool/job.sh", None),
        ("a|b|c|d", None),
        ("", None),
    ],
)
def test_one_mark_of_three_is_enough(shown: str, name: JobName | None) -> None:
    assert read_marks(shown)[0] == name
