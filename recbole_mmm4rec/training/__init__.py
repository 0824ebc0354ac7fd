"""The trainer, its observers and its optimisers."""
