"""Several shops as one, for pre-training."""
