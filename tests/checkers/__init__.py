"""Tests of the checkers beside the built-in one."""
