"""The C library's allocator, set so that a training step finds its memory where the last one left it.

By default glibc gives tensors of some MiB straight back to the system when they are freed, and every step pays for
fresh pages: at B = 1024 of the paper's sizes 9,000 page faults, a twentieth of the step.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import sys

logger = logging.getLogger(__name__)

# malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD; 32 MiB is the most that the last one takes
_SETTINGS = {-1: 2**31 - 1, -2: 2**26, -3: 2**25}


@functools.cache
def keep_freed_memory() -> bool:
    """Let the process keep freed blocks of up to 32 MiB for its next allocations; asked for once, stays until it ends.

    Returns:
        whether the C library is glibc and took the settings; elsewhere nothing changes.
    """
    if sys.platform != "linux":
        return False
    try:
        library = ctypes.CDLL(None)
        taken = hasattr(library, "gnu_get_libc_version") and all(
            library.mallopt(ctypes.c_int(key), ctypes.c_int(value)) == 1 for key, value in _SETTINGS.items()
        )
    except (OSError, AttributeError):
        return False
    logger.debug("freed memory is kept: %s", taken)
    return bool(taken)
