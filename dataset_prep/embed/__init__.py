"""Text and image embeddings, cached, as item features."""
