"""Cocktail: separate the sounds of a mixture, and point at what makes them, on a Ray cluster."""

__version__ = "0.1.0"
