"""How the scripts measure time and memory: the cases, the clock, the processes, the tables and the figure."""
