"""`undo-hpc doctor`: is this machine, and the cluster behind it, fit for a run? Looks only; --prefetch and --write-profile write."""

from undo_hpc.doctor.checkup import checkup

__all__ = ["checkup"]
