"""Search for settings: ``python -m recbole_mmm4rec.tune --help``."""
