"""Weights from another training."""
