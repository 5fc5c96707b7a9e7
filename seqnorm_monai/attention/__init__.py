"""Sequence-norm attention: the mathematics, three exact paths (literal, projected, covariance), the modules."""
