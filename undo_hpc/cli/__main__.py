"""`python -m undo_hpc.cli`: the same as `undo-hpc`."""

from undo_hpc.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
