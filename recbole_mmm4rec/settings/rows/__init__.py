"""The rows: every setting of the program, by the part that it belongs to."""
