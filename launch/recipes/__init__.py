"""Everything that determines the numbers of a report, one module a study."""
