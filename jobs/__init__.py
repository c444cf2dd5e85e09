"""Entry points: what runs, on what, with which settings."""
