"""One's own vectors, put into the feature stores."""
