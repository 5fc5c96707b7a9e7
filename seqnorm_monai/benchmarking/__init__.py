"""How the scripts measure time and memory; the peers they compare with."""
