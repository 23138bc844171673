"""Find what the real PythonQt would refuse: python Testing/host/lint_pythonqt.py FOLDER...

Prints one line for each finding, `path:line: rule: message`; exit code 1 if there is any. It looks
at .py files, and at .ui files for the classes of the widgets they name. The facts behind the rules
are in slicerhost/lint/rules.py.
"""

import ast
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from slicerhost.lint.rules import RULES
from slicerhost.lint.widget_types import WidgetTypes
from slicerhost.stand_ins import install_stand_ins


def main(folders):
    install_stand_ins()
    findings = [finding for folder in folders for finding in lint(Path(folder))]
    for finding in findings:
        print(finding)  # noqa: T201 - a command line tool
    return 1 if findings else 0


def lint(folder):
    """Return the findings of all .py files below `folder`, sorted."""
    ui_files = sorted(folder.rglob("*.ui"))
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
    return [finding for path in files for finding in _lint_file(path, ui_files)]


def _lint_file(path, ui_files):
    tree = ast.parse(path.read_text())
    types = WidgetTypes(tree, ui_files, _find_class)
    found = {
        (node.lineno, rule.__name__, message)
        for node in ast.walk(tree)
        for rule in RULES
        if (message := rule(node, types)) is not None
    }
    return [f"{path}:{line}: {rule}: {message}" for line, rule, message in sorted(found)]


def _find_class(name):
    """Return the Qt class or stand-in called `name` ("qt.QTimer", "QTimer", "ctkSliderWidget")."""
    import ctk
    import qt
    import slicer

    module, _, short = name.rpartition(".")
    places = {"qt": [qt], "ctk": [ctk], "slicer": [slicer], "": [qt, ctk, slicer]}.get(module, [])
    for place in places:
        found = getattr(place, short, None)
        if isinstance(found, type) and issubclass(found, qt.QObject):
            return found
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
