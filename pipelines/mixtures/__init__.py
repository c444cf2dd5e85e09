"""From a manifest to a plan of mixtures, and from its rows to batches."""
