"""What the C library does with memory that is freed.

glibc gives large blocks back to the system at once, so that every layer's activations are fetched page by page anew: a
tenth of a sweep's time on two threads. Other C libraries are left as they are.
"""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of settings in glibc's malloc.h."""
LARGEST_KEPT = 32 << 20
"""Bytes of a block; larger ones are rare, and would leave holes that nothing else fits."""
MOST_KEPT = 128 << 20
"""Bytes of all that is free at the end of the heap."""


def keep_freed() -> None:
    """Let the next layer use again what this one frees."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(TRIM_THRESHOLD, MOST_KEPT)


def give_back() -> None:
    """Let the system have all that is free, for instance before asking it how much it has."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
