"""The networks, one file each; `zoo` builds them by their names."""
