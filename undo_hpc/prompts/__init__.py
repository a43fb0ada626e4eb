"""Prompts as plain text files: what the teacher and the student are asked, with every input in its place.

A set is a folder with `problem.txt` (first rationale), `refine.txt` (the next one, seeing the error) and `student.txt`
(training and evaluation); `example.txt` (an example in `refine.txt`) and `history.txt` (an earlier iteration in it) are optional.
See `undo_hpc.prompts.template` for the syntax.
"""

from undo_hpc.prompts.prompt_set import PromptSet, is_embedded, load_prompts

__all__ = ["PromptSet", "is_embedded", "load_prompts"]
