"""Brings models that were trained elsewhere."""
