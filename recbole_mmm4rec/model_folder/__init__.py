"""The folder that holds all of a trained model: written, checked, read."""
