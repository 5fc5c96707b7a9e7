"""The planes of a stack told apart: contrast phases, echoes, b-values."""
