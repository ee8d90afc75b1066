"""Counts the errors of networks on distorted images."""
