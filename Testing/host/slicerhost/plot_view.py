"""The chart of a vtkMRMLPlotViewNode, drawn by VTK's chart classes, off screen.

Stands for the VTK half of qMRMLPlotView. Not modelled: selecting points, panning, log scales,
legends' fonts, and value or date labels from string columns.
"""

import numpy as np
import slicer
import vtk

from .offscreen import offscreen_window, picture_of

_LINE_STYLES = {0: vtk.vtkPen.NO_PEN, 1: vtk.vtkPen.SOLID_LINE, 2: vtk.vtkPen.DASH_LINE}
_PLOTS = {
    slicer.vtkMRMLPlotSeriesNode.PlotTypeBar: vtk.vtkChart.BAR,
    slicer.vtkMRMLPlotSeriesNode.PlotTypeScatterBar: vtk.vtkChart.BAR,
}


class PlotView:
    def __init__(self, name="PlotView1"):
        node = slicer.vtkMRMLPlotViewNode()
        node.SetName(name)
        node.SetSingletonTag(name)
        self.node = slicer.mrmlScene.AddNode(node)
        self.renderer = vtk.vtkRenderer()
        self.renderer.SetBackground(1, 1, 1)
        self.window, self.interactor = offscreen_window(self.renderer)
        self._context = vtk.vtkContextActor()
        self.renderer.AddActor(self._context)
        self._context.GetScene().SetRenderer(self.renderer)
        self._drawn = None

    @property
    def needs_render(self):
        return self._drawn != self._state()

    @needs_render.setter
    def needs_render(self, value):
        if value:
            self._drawn = None

    def set_size(self, width, height):
        self.window.SetSize(width, height)
        self.needs_render = True

    def render(self):
        """Draw, and return the picture: uint8, (height, width, 3), top row first."""
        self._drawn = self._state()
        scene = self._context.GetScene()
        scene.ClearItems()
        scene.SetGeometry(*self.window.GetSize())
        chart_node = self._chart_node()
        if chart_node is not None:
            scene.AddItem(_chart(chart_node))
        return picture_of(self.window)

    def _chart_node(self):
        return self.node.GetPlotChartNode()

    def _state(self):
        """Return what changes whenever the picture has to."""
        chart = self._chart_node()
        nodes = [chart, *_series(chart)] if chart else []
        tables = [node.GetTableNode().GetTable() for node in nodes[1:] if node.GetTableNode()]
        return tuple(item.GetMTime() for item in (self.node, *nodes, *tables))


def _series(chart_node):
    count = chart_node.GetNumberOfPlotSeriesNodes()
    nodes = [chart_node.GetNthPlotSeriesNode(index) for index in range(count)]
    return [node for node in nodes if node is not None]


def _chart(node):
    chart = vtk.vtkChartXY()
    chart.SetAutoSize(True)
    chart.SetTitle((node.GetTitleVisibility() and node.GetTitle()) or "")
    chart.SetShowLegend(bool(node.GetLegendVisibility()))
    bottom, left = chart.GetAxis(vtk.vtkAxis.BOTTOM), chart.GetAxis(vtk.vtkAxis.LEFT)
    bottom.SetTitle((node.GetXAxisTitleVisibility() and node.GetXAxisTitle()) or "")
    left.SetTitle((node.GetYAxisTitleVisibility() and node.GetYAxisTitle()) or "")
    for series in _series(node):
        table = _table(series)
        if table is not None:
            _add_plot(chart, series, table)
    return chart


def _add_plot(chart, series, table):
    plot = chart.AddPlot(_PLOTS.get(series.GetPlotType(), vtk.vtkChart.LINE))
    plot.SetInputData(table, 0, 1)
    plot.SetLabel(series.GetName())
    plot.SetColorF(*series.GetColor())
    plot.SetWidth(series.GetLineWidth())
    if isinstance(plot, vtk.vtkPlotPoints):
        plot.SetMarkerStyle(series.GetMarkerStyle())
        plot.SetMarkerSize(series.GetMarkerSize())
        plot.GetPen().SetLineType(_LINE_STYLES.get(series.GetLineStyle(), vtk.vtkPen.SOLID_LINE))


def _table(series):
    """Return a vtkTable with the columns x and y of a series, or None if a column is missing."""
    source = series.GetTableNode().GetTable() if series.GetTableNode() else None
    y = source and source.GetColumnByName(series.GetYColumnName() or "")
    if not isinstance(y, vtk.vtkDataArray):
        return None
    x = source.GetColumnByName(series.GetXColumnName() or "")
    values = np.arange(y.GetNumberOfTuples(), dtype=float) if x is None else x
    table = vtk.vtkTable()
    for name, column in (("x", values), ("y", y)):
        copy = vtk.vtkDoubleArray()
        copy.SetName(name)
        for index in range(y.GetNumberOfTuples()):
            is_array = isinstance(column, np.ndarray)
            copy.InsertNextValue(column[index] if is_array else column.GetTuple1(index))
        table.AddColumn(copy)
    return table
