"""The typed configuration: schema.py (and train.py) say what there is, load.py reads it and names mistakes. No torch, no Hub."""

from undo_hpc.config.load import load_config
from undo_hpc.config.schema import RunConfig

__all__ = ["RunConfig", "load_config"]
