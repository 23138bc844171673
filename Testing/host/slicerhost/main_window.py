"""Stand-in of qSlicerAppMainWindow: the module panel left, the views right.

Says in its title and in a banner that it is a test host: its pictures are not of 3D Slicer.
"""

from PySide6 import QtCore, QtWidgets

TITLE = "RegLoRASegment test host: real MRML, stand-in widgets. This is not 3D Slicer."
PANEL_WIDTH = 460


class qSlicerAppMainWindow(QtWidgets.QMainWindow):
    is_stand_in = True

    def __init__(self, viewport, selector):
        super().__init__()
        self._selector = selector
        self.setObjectName("qSlicerMainWindow")  # slicer.util.mainWindow() looks for it
        self.setWindowTitle(TITLE)
        self._heading = QtWidgets.QLabel()
        self._scroll = QtWidgets.QScrollArea()
        self._scroll.setWidgetResizable(True)
        panel = QtWidgets.QWidget()
        layout = QtWidgets.QVBoxLayout(panel)
        layout.addWidget(self._heading)
        layout.addWidget(self._scroll, 1)
        dock = QtWidgets.QDockWidget("Module")
        dock.setObjectName("PanelDockWidget")
        dock.setTitleBarWidget(QtWidgets.QWidget())
        dock.setWidget(panel)
        dock.setMinimumWidth(PANEL_WIDTH)
        self.addDockWidget(QtCore.Qt.LeftDockWidgetArea, dock)
        self.setCentralWidget(self._with_banner(viewport))
        self.statusBar()
        self.resize(1400, 900)

    def moduleSelector(self):
        return self._selector

    def showModule(self, title, widget):
        """Show the panel of a module (in Slicer: qSlicerModulePanel)."""
        self._heading.setText(f"<b>{title}</b>")
        previous = self._scroll.takeWidget()
        if previous is not None:
            previous.setParent(None)
        self._scroll.setWidget(widget)
        widget.show()

    def _with_banner(self, viewport):
        banner = QtWidgets.QLabel(TITLE)
        banner.setAlignment(QtCore.Qt.AlignCenter)
        banner.setStyleSheet("background: #333; color: #fff; padding: 2px")
        central = QtWidgets.QWidget()
        layout = QtWidgets.QVBoxLayout(central)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(banner)
        layout.addWidget(viewport, 1)
        return central
