"""A synthetic shop with texts and pictures."""
