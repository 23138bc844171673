"""Settings of the process that runs the command line; a host application keeps its own."""

from __future__ import annotations

import ctypes
import os
import sys

SPINS = "3000"  # some microseconds
KEPT_BYTES = 2**30
M_TRIM_THRESHOLD = -1  # glibc's malloc.h
M_MMAP_THRESHOLD = -3


def tune_process() -> None:
    """Make small parallel steps and large arrays cheap; to be called before torch is loaded.

    What the user set in the environment stays. Figures: docs/benchmarks.md.
    """
    _shorten_spinning()
    _keep_freed_memory()


def _shorten_spinning() -> None:
    """Let OpenMP's waiting threads spin for a moment, then sleep.

    Threads that spin for long take the cores from those that they wait for when another program
    (Slicer, say) is busy; threads that sleep at once wake up late on an idle computer.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def _keep_freed_memory() -> None:
    """Let glibc reuse freed arrays: by default it returns each large one to the system.

    The next one is then made of new pages, which the system has to clear: a third of a run.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
