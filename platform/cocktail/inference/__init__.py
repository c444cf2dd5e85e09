"""A trained model and what is done with it."""
