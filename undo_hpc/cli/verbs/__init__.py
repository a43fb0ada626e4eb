"""One file a verb of `undo-hpc`."""
