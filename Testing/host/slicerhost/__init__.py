"""A test host for 3D Slicer scripted modules: real MRML, stand-in Qt widgets."""

import os

# Read when PySide6 is first imported: enums compare equal to numbers, as in PythonQt.
os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "0x02")

from .host import Host

__all__ = ["Host"]
