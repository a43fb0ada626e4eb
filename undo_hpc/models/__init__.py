"""Models: from what a configuration calls one to files that may be loaded, checked without torch before a GPU is asked for."""
