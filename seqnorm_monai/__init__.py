"""Softmax-free attention with sequence normalisation for large medical images, as a MONAI network."""

__version__ = "0.1.0"
