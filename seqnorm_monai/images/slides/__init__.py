"""Images read by regions."""
