"""Writes the report of a study."""
