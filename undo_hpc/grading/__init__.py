"""Checking mathematical answers: exact where that is cheap, algebra in a process that can be killed, never eval."""
