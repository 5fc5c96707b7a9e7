"""The planes of a stack told apart."""
