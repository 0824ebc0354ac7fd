"""Which interactions a data set keeps."""
