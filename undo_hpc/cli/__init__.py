"""The command line: thin doors. Nothing heavy is imported before the arguments are read."""
