"""Stand-ins of the CTK widgets that scripted modules put in their .ui files; the module `ctk`.

A ctk class that is not here does not exist in the host: using it raises AttributeError, and a
.ui file that names it is refused.
"""

import sys
import types

from PySide6 import QtCore, QtWidgets

from .ctk_collapsible_button import ctkCollapsibleButton
from .ctk_slider_widget import ctkSliderWidget
from .dialect.ui_loader import stand_in
from .stored_property import stored


@stand_in
class ctkDoubleSpinBox(QtWidgets.QDoubleSpinBox):
    """Not modelled: CTK's decimals options and value proxy."""


@stand_in
class ctkCheckBox(QtWidgets.QCheckBox):
    """Not modelled: the indicator icon."""


@stand_in
class ctkComboBox(QtWidgets.QComboBox):
    """Not modelled: the default icon and the scroll wheel effect."""

    def _show_default(self):
        self.setPlaceholderText(self.defaultText)

    defaultText, setDefaultText = stored(str, "defaultText", "", _show_default)


@stand_in
class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """Not modelled: growing with its text, and collapsible text."""


@stand_in
class ctkMessageBox(QtWidgets.QMessageBox):
    """Not modelled: "don't show this message again"."""


class ctkSettings(QtCore.QSettings):
    """Not modelled: storing enums and fonts of CTK."""

    is_stand_in = True


@stand_in
class ctkPathLineEdit(QtWidgets.QWidget):
    """A path with a browse button. Not modelled: history, completion, validation of the path."""

    currentPathChanged = QtCore.Signal(str)
    SIGNALS = {"currentPathChanged(QString)": "currentPathChanged"}
    Dirs, Files, Readable, Writable, Executable = 0x1, 0x2, 0x10, 0x20, 0x40
    Drives, Hidden, System, AllDirs, CaseSensitive, NoSymLinks = (
        0x4,
        0x100,
        0x200,
        0x400,
        0x800,
        0x8,
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit()
        self._browse = QtWidgets.QToolButton()
        self._browse.setText("…")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit, 1)
        layout.addWidget(self._browse)
        self._edit.textChanged.connect(self.currentPathChanged.emit)
        self._browse.clicked.connect(lambda: self.browse())

    def _path(self):
        return self._edit.text

    def setCurrentPath(self, path):
        self._edit.setText(path)

    currentPath = QtCore.Property(str, _path, setCurrentPath)
    filters, setFilters = stored(int, "filters", Files | Readable)
    nameFilters, setNameFilters = stored("QStringList", "nameFilters", [])
    settingKey, setSettingKey = stored(str, "settingKey", "")
    label, setLabel = stored(str, "label", "")
    showHistoryButton, setShowHistoryButton = stored(bool, "showHistoryButton", True)
    showBrowseButton, setShowBrowseButton = stored(
        bool, "showBrowseButton", True, lambda self: self._browse.setVisible(self.showBrowseButton)
    )

    def addCurrentPathToHistory(self):
        pass

    def browse(self):
        dialog = QtWidgets.QFileDialog
        name_filter = ";;".join(self.nameFilters)
        if not self.filters & self.Files:
            path = dialog.getExistingDirectory(self, self.label, self.currentPath)
        elif self.filters & self.Writable:
            path = dialog.getSaveFileName(self, self.label, self.currentPath, name_filter)[0]
        else:
            path = dialog.getOpenFileName(self, self.label, self.currentPath, name_filter)[0]
        if path:
            self.setCurrentPath(path)


@stand_in
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box whose tick collapses it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.setCheckable(True)
        self.toggled.connect(self._show_contents)

    def _is_collapsed(self):
        return not self.isChecked()

    def setCollapsed(self, collapsed):
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, _is_collapsed, setCollapsed)

    def _show_contents(self, shown):
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(shown)


CTK_CLASSES = (
    ctkCheckBox,
    ctkCollapsibleButton,
    ctkCollapsibleGroupBox,
    ctkComboBox,
    ctkDoubleSpinBox,
    ctkFittedTextBrowser,
    ctkMessageBox,
    ctkPathLineEdit,
    ctkSettings,
    ctkSliderWidget,
)


def install_ctk():
    """Make `import ctk` give the stand-ins."""
    ctk = types.ModuleType("ctk", __doc__)
    for cls in CTK_CLASSES:
        setattr(ctk, cls.__name__, cls)
    sys.modules["ctk"] = ctk
    return ctk
