"""Public data sets on a disk or in an object store, each turned into an index. Only these files know a layout."""
