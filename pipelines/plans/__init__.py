"""Plans of mixtures, made of a manifest: which bytes to read and how to mix them. Nothing here reads sound."""
