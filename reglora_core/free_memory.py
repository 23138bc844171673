"""The memory that programs can still take. Standard library only."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def free_memory_bytes() -> int | None:
    """Return the memory that programs can still take; None if the system does not tell."""
    if sys.platform == "linux":
        return _linux_memory()
    if os.name == "nt":
        return _windows_memory()
    return None


def _linux_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    text = values.get("MemAvailable", "").split()
    return int(text[0]) * 1024 if text else None


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
        (name, ctypes.c_ulonglong)
        for name in (
            "total", "available", "pageTotal", "page", "virtualTotal", "virtual", "extended",
        )
    ]  # fmt: skip


def _windows_memory() -> int | None:
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    windows: object = ctypes.__dict__["windll"].kernel32
    succeeded = windows.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.available) if succeeded else None
