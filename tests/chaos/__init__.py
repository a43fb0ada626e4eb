"""Chaos on a real SLURM: small runs that are disturbed by a seed, and compared with the run that nothing happened to."""
