"""A test host for 3D Slicer scripted modules: real MRML, stand-in Qt widgets."""

from .host import Host

__all__ = ["Host"]
