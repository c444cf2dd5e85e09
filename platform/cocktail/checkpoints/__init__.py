"""Checkpoints: how they are stored, what anybody's may hold, and the weights that a run starts from."""
