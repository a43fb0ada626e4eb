"""One decider a file: each says True, False, or None where the question is not its own."""
