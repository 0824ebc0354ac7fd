"""Measurements that anyone can repeat; `python -m benchmarks` runs them and writes docs/benchmarks.md."""
