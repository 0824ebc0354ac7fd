"""Errors, whole files, JSON lines, atomic files: what knows nothing of the model."""
