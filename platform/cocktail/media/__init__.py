"""Sound and pictures as they are found in files."""
