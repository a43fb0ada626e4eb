"""How things get onto the disk and stay there: atomic files, append-only shards, manifests, leases, events."""
