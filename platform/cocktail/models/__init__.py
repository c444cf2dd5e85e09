"""One file a system: its configuration, its module, its losses."""
