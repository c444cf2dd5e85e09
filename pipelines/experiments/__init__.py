"""One run: from the command line to its scores in MLflow."""
