"""Estimates of the sources of mixtures."""
