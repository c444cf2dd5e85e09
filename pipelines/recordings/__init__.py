"""Folders of one's own recordings, put to a trained model on a cluster."""
