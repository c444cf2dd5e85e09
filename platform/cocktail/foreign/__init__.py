"""Files of strangers, read within bounds of size, nesting and expansion."""
