"""Sound and pictures as they are in files."""
