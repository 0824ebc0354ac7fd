"""What is written of a training, read again and gone on with."""
