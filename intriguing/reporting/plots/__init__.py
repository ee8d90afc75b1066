"""Figures, as Matplotlib draws them."""
