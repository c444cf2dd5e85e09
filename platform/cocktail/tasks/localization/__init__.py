"""Maps of where in the pictures the sources of mixtures are."""
