"""Reading tables and writing prepared data sets."""
