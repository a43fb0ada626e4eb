"""Whole runs in virtual time: the launcher, the worker and all of `control/` are the real ones; scheduler, nodes and stages are simulated."""
