"""Wide tables of items, in few passes and piece by piece."""
