"""The module `qt`: every class of QtCore, QtGui, QtWidgets, QtNetwork... under one name.

Stands for Slicer's `qt` (PythonQt). Where the real one is stricter and Python cannot be made so
(isinstance with qt.QWidget is False there, enums are plain ints), lint_pythonqt.py looks instead.
"""

import sys
import types

from PySide6 import QtCore, QtGui, QtNetwork, QtSvg, QtUiTools, QtWidgets

from .properties import forbid_new_attributes, show_properties
from .signals import connect, disconnect, speak_python_qt
from .ui_loader import STAND_INS, QUiLoader


def install_qt():
    """Make `import qt` give PythonQt's dialect, and return the module."""
    if "qt" in sys.modules:
        return sys.modules["qt"]
    qt = types.ModuleType("qt", __doc__)
    for part in (QtCore, QtGui, QtWidgets, QtNetwork, QtSvg, QtUiTools):
        for name in dir(part):
            if not name.startswith("_"):
                setattr(qt, name, _in_dialect(getattr(part, name)))
    _extend_qobject(QtCore.QObject)
    qt.QUiLoader = QUiLoader
    sys.modules["qt"] = qt
    return qt


def _in_dialect(value):
    if not isinstance(value, type):
        return value
    if issubclass(value, QtCore.QObject):
        show_properties(value)
        speak_python_qt(value)
        forbid_new_attributes(value)
    if hasattr(value, "exec") and "exec_" not in value.__dict__:
        value.exec_ = value.exec
    return value


def _extend_qobject(qobject):
    """Add what PythonQt adds to every object."""
    find_children = qobject.findChildren
    qobject.connect, qobject.disconnect = connect, disconnect
    qobject.name = property(
        lambda self: self.objectName, lambda self, name: self.setObjectName(name)
    )
    qobject.className = _class_name
    qobject.delete = lambda self: self.deleteLater()
    qobject.findChildren = lambda self, *query: tuple(find_children(self, *query))


def _class_name(instance):
    name = type(instance).__name__
    return name if name in STAND_INS else instance.metaObject().className()
