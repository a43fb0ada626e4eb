"""Where tasks run: the machine at hand or a SLURM cluster, behind one small contract (`base.py`)."""
