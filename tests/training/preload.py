"""What every rank imports, done once in the process that the tests' ranks are forked from."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a pool of threads would not survive the fork
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from undo_hpc.training.setup import quiet_deepspeed

quiet_deepspeed()

import pyarrow.parquet  # noqa: E402, F401
import transformers.models.qwen2.modeling_qwen2  # noqa: E402, F401

import undo_hpc.training.loop  # noqa: E402, F401
