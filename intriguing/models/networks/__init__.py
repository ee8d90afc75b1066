"""The networks, one in each file; `zoo` builds them by name."""
