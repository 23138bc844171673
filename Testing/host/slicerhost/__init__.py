"""A test host for 3D Slicer scripted modules: real MRML (slicer-core), stand-in Qt widgets (PySide6)."""

from .host import Host

__all__ = ["Host"]
