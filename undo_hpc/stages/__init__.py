"""The stages of an iteration, one a file. Each reads its inputs' manifests, does its work, and writes its own manifest last."""
