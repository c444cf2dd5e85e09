"""Runs recorded in MLflow, through its outages."""
