"""Text as it is shown: without credentials, and without what acts where it is read."""
