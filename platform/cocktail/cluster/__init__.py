"""The Ray cluster that jobs run on."""
