"""Recipes: all settings that determine the numbers of a report, one module a study."""
