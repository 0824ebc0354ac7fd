"""The short address of :mod:`recbole_mmm4rec.run.quick_start`, kept for programs that import it."""

from recbole_mmm4rec.run.quick_start import *  # noqa: F403
