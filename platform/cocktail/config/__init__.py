"""The settings of an experiment, a file a part."""
