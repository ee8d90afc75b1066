"""The front door: one script for each thing a person wants done."""
