"""A run: built once, started from Python or the command line, known by its identity."""
