"""Asks of the layers of a network whether single units mean more than random directions."""
