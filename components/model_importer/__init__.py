"""Imports models that were trained elsewhere."""
