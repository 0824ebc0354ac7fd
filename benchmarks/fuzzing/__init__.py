"""Parts of fuzz.py: good files, damage, readers, and what is watched while they read."""
