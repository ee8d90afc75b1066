"""Bounds a network layer by layer, and puts what is certain beside what an attack found."""
