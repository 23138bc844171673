"""Which Qt class an expression of a module's source has, as far as can be told without running.

Known are objects made in the same file (`self.x = qt.QTimer()`) and widgets named in a .ui file
(`self.ui.x`).
"""

import ast
import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore

_AMBIGUOUS = object()


class WidgetTypes:
    """Classes of names, for one source file and the .ui files of its folder."""

    def __init__(self, tree, ui_files, find_class):
        self._find_class = find_class  # "qt.QTimer" -> class, or None
        self._classes = {}
        self._ui = {}
        for path in ui_files:
            for element in ElementTree.parse(path).iter("widget"):
                self._add(self._ui, element.get("name"), self._find_class(element.get("class")))
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made = self._find_class(ast.unparse(node.value.func))
                for target in node.targets:
                    self._add(self._classes, ast.unparse(target), made)

    def of(self, expression):
        """Return the class of an ast expression, or None if it is not known."""
        text = ast.unparse(expression)
        found = self._classes.get(text)
        owner = text.rpartition(".")[0].rpartition(".")[2]
        if found is None and owner in ("ui", "_ui"):
            found = self._ui.get(expression.attr)
        return None if found is _AMBIGUOUS else found

    @staticmethod
    def _add(table, name, cls):
        """Names of two different classes are not judged."""
        table[name] = cls if table.get(name, cls) is cls else _AMBIGUOUS


def property_names(cls):
    """Return the Qt properties of a class, its bases' included."""
    meta = cls.staticMetaObject
    return {meta.property(index).name() for index in range(meta.propertyCount())}


def signal_signatures(cls):
    """Return the signatures of the signals that can be connected to."""
    declared = getattr(cls, "SIGNALS", {})
    meta = cls.staticMetaObject
    methods = [meta.method(index) for index in range(meta.methodCount())]
    return set(declared) | {
        bytes(method.methodSignature()).decode()
        for method in methods
        if method.methodType() == QtCore.QMetaMethod.Signal
    }
