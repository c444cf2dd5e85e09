"""The second stage: from an index to verified WebDataset tars."""
