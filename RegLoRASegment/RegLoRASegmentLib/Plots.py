"""Loss and ranks of a run as plot nodes, which Slicer's plot view shows."""

from __future__ import annotations

import slicer
import vtk
from slicer.i18n import tr as _

ATTRIBUTE = "RegLoRASegment.Plot"
_COLORS = ((0.12, 0.47, 0.71), (0.85, 0.37, 0.01), (0.17, 0.63, 0.17), (0.58, 0.40, 0.74))


class Plots:
    """Two charts: the loss over time, and the rank that each layer has now."""

    def __init__(self) -> None:
        self._nodes: dict[str, object] = {}

    def update(self, run) -> None:
        """Show the numbers of a run; the nodes are made at the first call."""
        if run.losses:
            stage, points = list(run.losses.items())[-1]
            title = _("Loss ({stage})").format(stage=stage)
            columns = {_("step"): [step for step, _loss in points], _("loss"): [v for _s, v in points]}
            self._chart("loss", title, columns, isBar=False)
        if run.ranks:
            ranks = run.ranks[-1][1]
            columns = {_("layer"): list(range(1, len(ranks) + 1)), _("rank"): list(ranks.values())}
            self._chart("rank", _("Rank of each layer"), columns, isBar=True)

    def show(self, kind: str = "loss") -> None:
        """Show a chart in the plot view; the layout is changed to one that has such a view."""
        chart = self._node(f"{kind}Chart")
        if chart is None:
            return
        manager = slicer.app.layoutManager()
        if manager is not None:
            current = manager.layout
            layoutLogic = slicer.modules.plots.logic()
            manager.setLayout(layoutLogic.GetLayoutWithPlot(current))
        slicer.app.applicationLogic().GetSelectionNode().SetActivePlotChartID(chart.GetID())
        slicer.app.applicationLogic().PropagatePlotChartSelection()

    def remove(self) -> None:
        for node in self._nodes.values():
            if node.GetScene() is not None:
                node.GetScene().RemoveNode(node)
        self._nodes.clear()

    def nodes(self) -> dict[str, object]:
        """Return the nodes by their role: lossTable, lossSeries, lossChart, rankTable, ..."""
        return {role: node for role, node in self._nodes.items() if node.GetScene() is not None}

    def _chart(self, kind: str, title: str, columns: dict[str, list], isBar: bool) -> None:
        table = self._node(f"{kind}Table") or self._make(f"{kind}Table", "vtkMRMLTableNode", title)
        _fill(table, columns)
        shown = self._node(f"{kind}Chart")
        if shown is not None:
            shown.SetTitle(title)
            return
        series = self._make(f"{kind}Series", "vtkMRMLPlotSeriesNode", title)
        x, y = columns
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(x)
        series.SetYColumnName(y)
        plotType = series.PlotTypeScatterBar if isBar else series.PlotTypeScatter
        series.SetPlotType(plotType)
        series.SetMarkerStyle(series.MarkerStyleNone)
        series.SetLineWidth(2.0)
        series.SetColor(*_COLORS[int(isBar)])
        chart = self._make(f"{kind}Chart", "vtkMRMLPlotChartNode", title)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
        chart.SetTitle(title)
        chart.SetXAxisTitle(x)
        chart.SetYAxisTitle(y)
        chart.SetLegendVisibility(False)

    def _node(self, role: str):
        node = self._nodes.get(role)
        return node if node is not None and node.GetScene() is not None else None

    def _make(self, role: str, className: str, title: str):
        name = f"RegLoRASegment {title}"
        node = slicer.mrmlScene.AddNewNodeByClass(className, name)
        node.SetAttribute(ATTRIBUTE, role)
        self._nodes[role] = node
        return node


def _fill(tableNode, columns: dict[str, list]) -> None:
    wasModifying = tableNode.StartModify()
    table = vtk.vtkTable()
    for name, values in columns.items():
        array = vtk.vtkDoubleArray()
        array.SetName(name)
        for value in values:
            array.InsertNextValue(float(value))
        table.AddColumn(array)
    tableNode.SetAndObserveTable(table)
    tableNode.EndModify(wasModifying)
