"""Stand-in of qSlicerLayoutManager: which views are shown, and how they are arranged.

Modelled layouts: four-up, conventional, one-up red/yellow/green/3D, and four-up with a plot.
Any other layout raises NotImplementedError. Not modelled: detached and compare views.
"""

from collections import deque

import slicer
from PySide6 import QtCore, QtWidgets

from .observations import Observations
from .plot_widget import qMRMLPlotWidget
from .view_widgets import qMRMLSliceWidget, qMRMLThreeDWidget

SLICE_VIEWS = {
    "Red": ("Axial", "#f34a33"),
    "Yellow": ("Sagittal", "#edd54c"),
    "Green": ("Coronal", "#6eb04b"),
}
RENDER_INTERVAL_MS = 20
_Layout = slicer.vtkMRMLLayoutNode
_FOUR_UP = {"Red": (0, 0), "3D": (0, 1), "Green": (1, 0), "Yellow": (1, 1)}
_CONVENTIONAL = {"3D": (0, 0, 1, 3), "Red": (1, 0), "Yellow": (1, 1), "Green": (1, 2)}
# Layout -> view -> (row, column[, rows, columns]) of a grid.
ARRANGEMENTS = {
    _Layout.SlicerLayoutFourUpView: _FOUR_UP,
    _Layout.SlicerLayoutConventionalView: _CONVENTIONAL,
    _Layout.SlicerLayoutFourUpPlotView: {**_FOUR_UP, "3D": (0, 1), "Plot": (0, 2, 2, 1)},
    _Layout.SlicerLayoutConventionalPlotView: {**_CONVENTIONAL, "Plot": (0, 3, 2, 1)},
    _Layout.SlicerLayoutOneUpRedSliceView: {"Red": (0, 0)},
    _Layout.SlicerLayoutOneUpYellowSliceView: {"Yellow": (0, 0)},
    _Layout.SlicerLayoutOneUpGreenSliceView: {"Green": (0, 0)},
    _Layout.SlicerLayoutOneUp3DView: {"3D": (0, 0)},
    _Layout.SlicerLayoutOneUpPlotView: {"Plot": (0, 0)},
}


class qSlicerLayoutManager(QtCore.QObject):
    layoutChanged = QtCore.Signal(int)
    SIGNALS = {"layoutChanged(int)": "layoutChanged"}
    is_stand_in = True

    def __init__(self, application_logic):
        super().__init__()
        self._viewport = QtWidgets.QWidget()
        self._grid = QtWidgets.QGridLayout(self._viewport)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self._slices = {
            name: qMRMLSliceWidget(application_logic, name, orientation, color)
            for name, (orientation, color) in SLICE_VIEWS.items()
        }
        self._three_d = qMRMLThreeDWidget(application_logic)
        self._plot = qMRMLPlotWidget()
        self._views = {**self._slices, "3D": self._three_d, "Plot": self._plot}
        self._turns = deque(self._views.values())
        self._pauses = 0
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._node = self._logic.GetLayoutNode()
        self._node.SetViewArrangement(_Layout.SlicerLayoutFourUpView)
        self._observations = Observations()
        self._observations.add(self._node, "ModifiedEvent", self._arrange)
        self._arranged = None
        self._arrange()
        self._timer = QtCore.QTimer(self)
        self._timer.timeout.connect(self._renderNextView)
        self._timer.start(RENDER_INTERVAL_MS)

    def sliceWidget(self, name):
        return self._slices.get(name)

    def sliceViewNames(self):
        return tuple(self._slices)

    def mrmlSliceLogics(self):
        return slicer.app.applicationLogic().GetSliceLogics()

    def threeDWidget(self, index):
        return self._three_d if index == 0 else None

    def plotWidget(self, index):
        return self._plot if index == 0 else None

    threeDViewCount = QtCore.Property(int, lambda _: 1)
    plotViewCount = QtCore.Property(int, lambda _: 1)
    tableViewCount = QtCore.Property(int, lambda _: 0)

    def layoutLogic(self):
        return self._logic

    def setLayout(self, layout):
        self._node.SetViewArrangement(layout)

    layout = QtCore.Property(int, lambda self: self._node.GetViewArrangement(), setLayout)

    def viewport(self):
        return self._viewport

    def resetSliceViews(self):
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self):
        self._three_d.threeDView().resetFocalPoint()

    def pauseRender(self):
        self._pauses += 1

    def resumeRender(self):
        self._pauses -= 1

    def renderChangedViews(self):
        """Draw every view that MRML has marked as changed."""
        while self._renderNextView():
            pass

    def _renderNextView(self):
        """Draw one changed view; the next comes in another turn, as each has a timer in Slicer."""
        for _ in range(len(self._turns) if self._pauses <= 0 else 0):
            canvas = self._turns[0].canvas()
            self._turns.rotate(-1)
            if canvas.needsRender():
                canvas.forceRender()
                return True
        return False

    def _arrange(self, *_):
        layout = self._node.GetViewArrangement()
        if layout in (self._arranged, _Layout.SlicerLayoutNone):  # none: while a scene is closed
            return
        if layout not in ARRANGEMENTS:
            message = f"the test host has no view layout {layout}"
            raise NotImplementedError(message)
        for widget in self._views.values():
            self._grid.removeWidget(widget)
            widget.setParent(None)
        for name, place in ARRANGEMENTS[layout].items():
            self._grid.addWidget(self._views[name], *place)
            self._views[name].show()
        self._arranged = layout
        self.layoutChanged.emit(layout)
