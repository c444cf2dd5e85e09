"""One's own recordings, of any length: heard window by window, separated, localized, written."""
