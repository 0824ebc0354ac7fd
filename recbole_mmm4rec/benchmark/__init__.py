"""The former name of :mod:`recbole_mmm4rec.compare`; gone in the next version."""
