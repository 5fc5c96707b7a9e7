"""Images larger than memory, and over processes."""
