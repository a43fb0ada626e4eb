"""What a run and an iteration ARE: paths, plan, graph of stages, evidence and state."""
