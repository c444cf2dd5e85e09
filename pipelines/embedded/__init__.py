"""Corpora that are made where there is no data."""
