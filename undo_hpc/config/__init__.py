"""The typed configuration: schema.py and the files beside it say what there is, load.py reads it and names mistakes. No torch, no Hub."""
