"""Student training: packed, preemption-safe, on DeepSpeed.

`spec.py` says what is asked, `loop.py` is the whole training in one sitting, `launch.py` starts the ranks of one machine,
and `python -m undo_hpc.training SPEC.json` is what each rank runs.
"""
