"""Imports images that were distorted elsewhere."""
