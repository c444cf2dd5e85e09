"""Blocks that models are built of."""
