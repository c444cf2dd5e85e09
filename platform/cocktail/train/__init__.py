"""The training loop, its checkpoints, and its run on a Ray cluster."""
