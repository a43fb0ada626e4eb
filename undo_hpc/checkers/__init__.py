"""Checkers beside the built-in one: exact text, code that is run in a sandbox, a command of the user's, a judge for what is undecided."""

# Verdicts of two versions are never compared.
CODE_VERSION = 2  # of how a program is run and when it has passed
JUDGE_VERSION = 3  # of what a judge is asked, and what of its words counts
