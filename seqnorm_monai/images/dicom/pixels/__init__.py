"""The bytes of a frame to values."""
