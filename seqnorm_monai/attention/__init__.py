"""Sequence-norm attention: the mathematics, three paths, the modules."""
