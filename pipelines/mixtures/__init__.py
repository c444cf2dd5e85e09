"""Plans of mixtures, made of a manifest, and batches, made of their rows."""
