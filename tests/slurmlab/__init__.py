"""A real SLURM for tests and for people: `python -m tests.slurmlab` starts one to play with."""

from tests.slurmlab.lab import Lab, missing_programs
from tests.slurmlab.settings import LabSettings

__all__ = ["Lab", "LabSettings", "missing_programs"]
