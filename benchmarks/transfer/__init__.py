"""What pre-training brings against the amount of source data."""
