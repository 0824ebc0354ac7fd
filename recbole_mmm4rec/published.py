"""The former place of :mod:`recbole_mmm4rec.transfer.published`, kept for programs that import it."""

from recbole_mmm4rec.transfer.published import *  # noqa: F403
