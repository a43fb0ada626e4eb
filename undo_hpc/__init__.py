"""UNDO-HPC: iterative distillation on SLURM clusters, from one command to the last iteration."""

__version__ = "0.1.0"
