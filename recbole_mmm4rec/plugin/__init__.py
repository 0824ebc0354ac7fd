"""How RecBole finds the model, its data set, its trainer and its settings."""
