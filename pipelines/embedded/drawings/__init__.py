"""Drawings of instruments, several a class, for pictures that are made."""
