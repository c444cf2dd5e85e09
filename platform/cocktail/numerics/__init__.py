"""Means by which a training step is the same on any number of workers."""
