"""UNDO itself, PURE: what the teacher refines, what is kept, when to stop, how an error is described, the figures."""
