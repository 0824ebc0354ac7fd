"""The same a sequence at a time, by compiled loops on a processor."""
