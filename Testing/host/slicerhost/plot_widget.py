"""Stand-ins of qMRMLPlotWidget and qMRMLPlotView."""

from .dialect.ui_loader import stand_in
from .plot_view import PlotView
from .view_canvas import ViewCanvas
from .view_widgets import ViewWidget


class qMRMLPlotView(ViewCanvas):
    def mrmlPlotViewNode(self):
        return self._view.node


@stand_in
class qMRMLPlotWidget(ViewWidget):
    def __init__(self):
        view = PlotView()
        super().__init__(view, qMRMLPlotView(view), "1", "#e1e1e1")

    def plotView(self):
        return self._canvas

    def mrmlPlotViewNode(self):
        return self._view.node
