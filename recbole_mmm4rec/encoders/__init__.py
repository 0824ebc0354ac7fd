"""Encoders of texts and pictures: loaded by name, or by what a feature store says about itself."""
