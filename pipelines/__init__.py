"""Data sets in, mixtures out: from public layouts to shards, from shards to batches."""
