"""Puts the stand-ins where a module imports them from: qt, ctk, slicer.*, SampleData."""

import sys
import types
from pathlib import Path

import slicer

from . import layout_manager, scripted_modules, segment_editor  # noqa: F401 - they register
from .checkable_node_combo_box import qMRMLCheckableNodeComboBox  # noqa: F401
from .ctk_widgets import install_ctk
from .dialect.qt_module import install_qt
from .mrml_widgets import install_mrml_widgets

_FOLDER = Path(__file__).parent.parent
SLICER_MODULES = _FOLDER / "standins"  # slicer.i18n, slicer.testing, ...
BUILTIN_MODULES = _FOLDER / "builtin_modules"  # SampleData
EXTENSION_MODULES = _FOLDER / "extension_modules"  # PyTorchUtils


def install_stand_ins():
    """Make `import qt`, `import ctk` and `import slicer...` work; no application is started."""
    if "ctk" in sys.modules:
        return
    install_qt()
    install_ctk()
    install_mrml_widgets()
    sys.modules.setdefault("PythonQt", types.ModuleType("PythonQt"))
    slicer.__path__.append(str(SLICER_MODULES))
    sys.path.append(str(BUILTIN_MODULES))
