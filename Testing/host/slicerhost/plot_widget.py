"""Stand-in of qMRMLPlotWidget: the active chart of the plot view node, drawn by vtkChartXY."""

from PySide6 import QtWidgets

from .dialect.ui_loader import stand_in


class _PlotCanvas(QtWidgets.QWidget):
    is_stand_in = True

    def needsRender(self):
        return False


@stand_in
class qMRMLPlotWidget(QtWidgets.QWidget):
    def __init__(self):
        super().__init__()
        self._canvas = _PlotCanvas()

    def canvas(self):
        return self._canvas
