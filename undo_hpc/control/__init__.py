"""What to do next: where a run stands, what is submitted, what it costs, the checks before a start."""
