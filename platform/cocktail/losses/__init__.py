"""Objectives that several models share."""
