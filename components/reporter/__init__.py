"""Shows the study to people."""
