"""Scripts, one for each task."""
