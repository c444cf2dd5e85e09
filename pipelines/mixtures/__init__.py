"""Mixtures: a plan's rows read, mixed and made into batches, here or on a cluster."""
