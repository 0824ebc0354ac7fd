"""A trained model behind HTTP: ``mmm4rec serve DIR``."""
