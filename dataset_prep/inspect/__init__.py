"""A page that shows a prepared data set."""
