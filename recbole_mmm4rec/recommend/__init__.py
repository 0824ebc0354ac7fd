"""From a model folder to recommendations for histories that nobody has seen."""
