"""The rules, each a fact about PythonQt that was tried in 3D Slicer.

A rule is a function of (ast node, WidgetTypes) that returns a message, or None.
"""

import ast
import enum
import inspect

from PySide6 import QtCore, QtGui, QtWidgets

from .widget_types import property_names, signal_signatures

_BYTE_READERS = {"readAll", "readAllStandardOutput", "readAllStandardError", "readLine"}
_LIST_METHODS = {"append", "extend", "insert", "pop", "remove", "sort", "reverse", "clear", "copy"}
_INSTALLERS = {"pip_install", "pip_ensure", "pip_uninstall", "installTorch"}
_FOREIGN = ("PySide", "PyQt", "shiboken")
_MODULES = ("qt", "ctk")


def foreign_binding(node, _types):
    """Slicer has neither PySide nor PyQt."""
    names = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    found = [name for name in names if name.startswith(_FOREIGN)]
    return f"Slicer has no {found[0]}: import qt" if found else None


def instance_of_widget(node, _types):
    """isinstance(button, qt.QWidget) is False in PythonQt."""
    if not (_is_call(node, "isinstance") and len(node.args) == 2):
        return None
    classes = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
    for item in classes:
        text = ast.unparse(item)
        if text.startswith(("qt.Q", "ctk.ctk", "slicer.qMRML", "slicer.qSlicer")):
            return f"isinstance(..., {text}) is False in PythonQt: use inherits() or className()"
    return None


def new_attribute(node, types):
    """PythonQt raises AttributeError for an attribute that the C++ class does not have."""
    if not isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        if isinstance(target, ast.Attribute):
            cls = types.of(target.value)
            if cls is not None and target.attr not in property_names(cls) | {"name"}:
                return f"{cls.__name__} has no property '{target.attr}' and takes no new attributes"
    return None


def property_called(node, types):
    """A property is a value in PythonQt: button.text() calls a string."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    name, cls = node.func.attr, types.of(node.func.value)
    if name in ("sizeHint", "minimumSizeHint"):
        return f"{name} is a property in PythonQt: do not call it"
    if cls is not None and name in property_names(cls) and not _is_static(cls, name):
        return f"{cls.__name__}.{name} is a property in PythonQt: do not call it"
    return None


def unknown_signal(node, types):
    """PythonQt prints a line and goes on if a signal does not exist."""
    if not (_is_method(node, "connect") and node.args and isinstance(node.args[0], ast.Constant)):
        return None
    signature, cls = node.args[0].value, types.of(node.func.value)
    if not isinstance(signature, str):
        return None
    if "(" not in signature:
        return f"'{signature}' is not a signal signature: write its types too"
    compact = signature.replace("const ", "").replace("&", "").replace(" ", "")
    if cls is not None and compact not in signal_signatures(cls):
        return f"{cls.__name__} has no signal '{signature}': PythonQt would only print a line"
    return None


def keyword_argument(node, types):
    """Methods of Qt take no keyword arguments in PythonQt."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.keywords):
        return None
    cls = types.of(node.func.value)
    if cls is not None and cls.__module__.startswith("PySide6"):
        return f"{cls.__name__}.{node.func.attr}: PythonQt takes no keyword arguments"
    return None


def bytes_without_data(node, types):
    """What a QIODevice reads is a QByteArray: .data() gives the bytes."""
    if not isinstance(node, ast.Call | ast.Attribute | ast.Assign | ast.AugAssign):
        return None
    if isinstance(node, ast.Attribute):
        is_raw = node.attr != "data" and _is_method(node.value, *_BYTE_READERS)
        return _needs_data(node.value) if is_raw else None
    values = [node.value] if not isinstance(node, ast.Call) else node.args
    found = [value for value in values if _is_method(value, *_BYTE_READERS)]
    return _needs_data(found[0]) if found else None


def children_as_list(node, _types):
    """findChildren gives a tuple in PythonQt."""
    is_list_method = isinstance(node, ast.Attribute) and node.attr in _LIST_METHODS
    if is_list_method and _is_method(node.value, "findChildren"):
        return f"findChildren gives a tuple in PythonQt: it has no {node.attr}()"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = (node.left, node.right)
        lists = [side for side in sides if isinstance(side, ast.List | ast.ListComp)]
        if lists and any(_is_method(side, "findChildren") for side in sides):
            return "findChildren gives a tuple in PythonQt: it cannot be added to a list"
    return None


def scoped_enum(node, _types):
    """PythonQt knows qt.Qt.AlignLeft, not qt.Qt.AlignmentFlag.AlignLeft."""
    if not isinstance(node, ast.Attribute):
        return None
    parts = ast.unparse(node).split(".")
    if parts[0] != "qt" or len(parts) < 4:
        return None
    scope = _resolve(parts[1:-1])
    if inspect.isclass(scope) and issubclass(scope, enum.Enum):
        return f"PythonQt has no scoped enums: write {'.'.join([*parts[:-2], parts[-1]])}"
    return None


def unknown_name(node, _types):
    """A class or function of qt or ctk that the host does not know, or that does not exist."""
    if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
        return None
    import ctk
    import qt

    modules = {"qt": qt, "ctk": ctk}
    module = modules.get(node.value.id)
    if module is not None and not hasattr(module, node.attr):
        return f"the test host has no {node.value.id}.{node.attr}"
    return None


def install_in_thread(node, _types):
    """pip in a thread has crashed Slicer: install on the main thread only."""
    is_thread = _is_call(node, "Thread", "threading.Thread") or _is_method(node, "submit")
    if not is_thread:
        return None
    options = {keyword.arg: keyword.value for keyword in node.keywords}
    target = options.get("target", node.args[0] if node.args else None)
    if target is None:
        return None
    names = {child.attr for child in ast.walk(target) if isinstance(child, ast.Attribute)}
    names |= {child.id for child in ast.walk(target) if isinstance(child, ast.Name)}
    found = names & _INSTALLERS
    return (
        f"{found.pop()} in a thread crashes Slicer: call it on the main thread" if found else None
    )


RULES = (
    foreign_binding,
    instance_of_widget,
    new_attribute,
    property_called,
    unknown_signal,
    keyword_argument,
    bytes_without_data,
    children_as_list,
    scoped_enum,
    unknown_name,
    install_in_thread,
)


def _is_call(node, *names):
    return isinstance(node, ast.Call) and ast.unparse(node.func) in names


def _is_method(node, *names):
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return is_method and node.func.attr in names


def _is_static(cls, name):
    return inspect.isbuiltin(getattr(cls, name, None))


def _needs_data(call):
    return f"{call.func.attr}() gives a QByteArray in PythonQt: add .data()"


def _resolve(parts):
    for module in (QtCore, QtGui, QtWidgets):
        found = module
        for part in parts:
            found = getattr(found, part, None)
        if found is not None:
            return found
    return None
