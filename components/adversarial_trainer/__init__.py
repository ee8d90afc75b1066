"""Trains networks on adversarial examples of their own layers."""
