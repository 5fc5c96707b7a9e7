"""Files of any kind to arrays, or a refusal with its reason."""
