"""Probabilities and labels to numbers."""
