"""What papers print, a file a paper: rows of settings and scores, which sweeps run and reports stand beside."""
