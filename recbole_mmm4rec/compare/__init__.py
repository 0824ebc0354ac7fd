"""Models beside each other: ``python -m recbole_mmm4rec.compare``."""
