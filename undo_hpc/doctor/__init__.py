"""`undo-hpc doctor`: is this machine, and the cluster behind it, fit for a run? Looks only; --prefetch and --write-profile write."""

from undo_hpc.doctor.examine import examine
from undo_hpc.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "examine"]
