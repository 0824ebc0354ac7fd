"""Data sets: interactions, prefixes, splits, candidates."""
