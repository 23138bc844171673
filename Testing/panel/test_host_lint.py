"""lint_pythonqt.py finds what the real PythonQt refuses, and nothing in code that it takes."""

import sys
from pathlib import Path

import pytest

HOST = Path(__file__).parents[1] / "host"
sys.path.insert(0, str(HOST))
pytest_plugins = "slicerhost.pytest_plugin"

FORM = """<?xml version="1.0"?><ui version="4.0"><class>F</class><widget class="QWidget" name="F">
<widget class="QPushButton" name="runButton"/><widget class="ctkSliderWidget" name="rate"/>
</widget></ui>"""


@pytest.fixture
def findings(host, tmp_path):
    """Return a function that lints some lines of a module with a form of two widgets."""
    from lint_pythonqt import lint

    def findings(code):
        (tmp_path / "form.ui").write_text(FORM)
        (tmp_path / "Module.py").write_text(f"import qt\n{code}\n")
        return [line.split(": ")[1] for line in lint(tmp_path)]

    return findings


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("from PySide6 import QtCore", "foreign_binding"),
        ("isinstance(widget, qt.QWidget)", "instance_of_widget"),
        ("isinstance(widget, (str, slicer.qMRMLNodeComboBox))", "instance_of_widget"),
        ("self.timer = qt.QTimer()\nself.timer.count = 3", "new_attribute"),
        ("self.ui.runButton.colour = 'red'", "new_attribute"),
        ("self.ui.rate.valeu = 1", "new_attribute"),
        ("label = qt.QLabel()\nlabel.text()", "property_called"),
        ("height = widget.sizeHint().height()", "property_called"),
        ("self.ui.runButton.connect('clickd(bool)', f)", "unknown_signal"),
        ("self.ui.rate.connect('valueChanged(int)', f)", "unknown_signal"),
        ("anything.connect('clicked', f)", "unknown_signal"),
        ("box = qt.QVBoxLayout()\nbox.addWidget(w, stretch=1)", "keyword_argument"),
        ("data = bytes(process.readAllStandardOutput())", "bytes_without_data"),
        ("text = process.readLine().decode()", "bytes_without_data"),
        ("data += process.readAll()", "bytes_without_data"),
        ("self.findChildren(qt.QLabel).append(x)", "children_as_list"),
        ("both = [a] + self.findChildren(qt.QLabel)", "children_as_list"),
        ("qt.Qt.AlignmentFlag.AlignLeft", "scoped_enum"),
        ("qt.QProcess.ProcessState.Running", "scoped_enum"),
        ("qt.QTreeViewer()", "unknown_name"),
        ("import threading\nthreading.Thread(target=slicer.util.pip_install)", "install_in_thread"),
        ("pool.submit(lambda: logic.installTorch())", "install_in_thread"),
    ],
)
def test_what_pythonqt_refuses_is_found(findings, code, rule):
    assert findings(code) == [rule]


@pytest.mark.parametrize(
    "code",
    [
        "self.timer = qt.QTimer()\nself.timer.interval = 3\nqt.QTimer.singleShot(0, f)",
        "self.ui.runButton.text = 'Run'\nself.ui.runButton.setText('Run')",
        "self.ui.runButton.connect('clicked(bool)', f)",
        "self.ui.rate.connect('valueChanged(double)', f)",
        "text = process.readLine().data().decode()",
        "for label in self.findChildren(qt.QLabel): label.hide()",
        "qt.Qt.AlignLeft | qt.Qt.AlignTop",
        "box = qt.QVBoxLayout()\nbox.addWidget(w)",
        "x = qt.QLabel()\nx = qt.QTimer()\nx.text()",
        "isinstance(name, str)",
    ],
)
def test_what_pythonqt_takes_is_not_found(findings, code):
    assert findings(code) == []


def test_the_example_module_is_clean(host):
    from lint_pythonqt import lint

    assert lint(HOST / "example") == []


def test_our_module_is_clean(host):
    from lint_pythonqt import lint

    assert lint(HOST.parents[1] / "RegLoRASegment") == []
