"""The process at hand: death of the parent, command lines for hints, shipped files, energy."""
