"""UNDO-HPC: iterative distillation on SLURM clusters, from one command to the last iteration."""

__version__ = "0.2.0"
