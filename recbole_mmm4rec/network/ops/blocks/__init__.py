"""Convolution, scan and gate on dense blocks of sequences, with gradients by hand."""
