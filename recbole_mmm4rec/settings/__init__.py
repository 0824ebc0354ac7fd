"""Every setting: its name, range, default, and what it counts for."""
