"""The parts of a study, a file each: its settings, its steps, and its section of the report."""
