"""Checkers beside the built-in one: exact text, code that is run in a sandbox, a command of the user's, a judge for what is undecided."""
