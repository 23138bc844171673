"""Stand-in of qMRMLSegmentsTableView: visibility, colour and name of the segments."""

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

from .dialect.ui_loader import stand_in
from .mrml_widgets import qMRMLWidget
from .observations import Observations
from .stored_property import stored

_VISIBLE, _COLOR, _NAME = range(3)
_SEGMENT_EVENTS = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "SegmentsOrderModified")


@stand_in
class qMRMLSegmentsTableView(qMRMLWidget):
    """Not modelled: filtering, opacity and status columns, drag and drop, the context menu.

    selectionChanged carries no QItemSelection here: both its arguments are None.
    """

    selectionChanged = QtCore.Signal(object, object)
    segmentsUpdated = QtCore.Signal()
    SIGNALS = {
        **qMRMLWidget.SIGNALS,
        "selectionChanged(QItemSelection,QItemSelection)": "selectionChanged",
    }
    NoSelection, SingleSelection, MultiSelection, ExtendedSelection = 0, 1, 2, 3
    headerVisible, setHeaderVisible = stored(
        bool,
        "headerVisible",
        True,
        lambda self: self._table.horizontalHeader().setVisible(self.headerVisible),
    )
    visibilityColumnVisible, setVisibilityColumnVisible = stored(
        bool,
        "visibilityColumnVisible",
        True,
        lambda self: self._table.setColumnHidden(_VISIBLE, not self.visibilityColumnVisible),
    )
    colorColumnVisible, setColorColumnVisible = stored(
        bool,
        "colorColumnVisible",
        True,
        lambda self: self._table.setColumnHidden(_COLOR, not self.colorColumnVisible),
    )
    opacityColumnVisible, setOpacityColumnVisible = stored(bool, "opacityColumnVisible", True)
    statusColumnVisible, setStatusColumnVisible = stored(bool, "statusColumnVisible", True)
    filterBarVisible, setFilterBarVisible = stored(bool, "filterBarVisible", False)
    readOnly, setReadOnly = stored(bool, "readOnly", False)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._table = QtWidgets.QTableWidget(0, 3)
        self._table.setHorizontalHeaderLabels(["", "", "Name"])
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.verticalHeader().hide()
        self._table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectRows)
        self._table.setColumnWidth(_VISIBLE, 28)
        self._table.setColumnWidth(_COLOR, 28)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)
        self._node, self._observations = None, Observations()
        self._is_filling = False
        self._table.itemSelectionChanged.connect(self._on_selection)
        self._table.itemChanged.connect(self._on_edited)
        self._table.cellClicked.connect(self._on_clicked)

    def _get_mode(self):
        return int(self._table.selectionMode)

    def setSelectionMode(self, mode):
        self._table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode(mode))

    selectionMode = QtCore.Property(int, _get_mode, setSelectionMode)
    segmentCount = QtCore.Property(int, lambda self: self._table.rowCount)

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node):
        if node is self._node:
            return
        self._observations.clear()
        self._node = node
        if node is not None:
            # The node tells these on, once its display node knows a new segment.
            for name in _SEGMENT_EVENTS:
                self._observations.add(node, getattr(slicer.vtkSegmentation, name), self._fill)
            self._observations.add(node, node.DisplayModifiedEvent, self._fill)
        self._fill()

    def selectedSegmentIDs(self):
        rows = self._table.selectionModel().selectedRows()
        return tuple(self._segment_id(row.row()) for row in rows)

    def setSelectedSegmentIDs(self, segment_ids):
        self._table.blockSignals(True)
        self._table.clearSelection()
        for row in range(self._table.rowCount):
            if self._segment_id(row) in segment_ids:
                self._table.selectRow(row)
        self._table.blockSignals(False)
        self._on_selection()

    def clearSelection(self):
        self._table.clearSelection()

    def segmentIDForRow(self, row):
        return self._segment_id(row)

    def _segment_id(self, row):
        return self._table.item(row, _NAME).data(QtCore.Qt.UserRole)

    def _fill(self, *_):
        selected = self.selectedSegmentIDs()
        self._is_filling = True
        segmentation = self._node.GetSegmentation() if self._node else None
        count = segmentation.GetNumberOfSegments() if segmentation else 0
        self._table.setRowCount(count)
        display = self._node.GetDisplayNode() if self._node else None
        for row in range(count):
            segment_id = segmentation.GetNthSegmentID(row)
            is_visible = display is None or display.GetSegmentVisibility(segment_id)
            items = _row(segment_id, segmentation.GetSegment(segment_id), is_visible)
            for column, item in enumerate(items):
                self._table.setItem(row, column, item)
        self._is_filling = False
        if selected != self.selectedSegmentIDs():
            self.setSelectedSegmentIDs(selected)

    def _on_selection(self):
        if not self._is_filling:
            self.selectionChanged.emit(None, None)

    def _on_edited(self, item):
        if self._is_filling or item.column() != _NAME or self.readOnly:
            return
        segment = self._node.GetSegmentation().GetSegment(item.data(QtCore.Qt.UserRole))
        segment.SetName(item.text())

    def _on_clicked(self, row, column):
        display = self._node.GetDisplayNode() if self._node else None
        if column == _VISIBLE and display is not None:
            segment_id = self._segment_id(row)
            display.SetSegmentVisibility(segment_id, not display.GetSegmentVisibility(segment_id))


def _row(segment_id, segment, is_visible):
    """Return the items of a row: eye, colour, name."""
    eye = QtWidgets.QTableWidgetItem("●" if is_visible else "○")
    color = QtWidgets.QTableWidgetItem()
    color.setData(QtCore.Qt.DecorationRole, QtGui.QColor.fromRgbF(*segment.GetColor()))
    for item in (eye, color):
        item.setFlags(QtCore.Qt.ItemIsEnabled | QtCore.Qt.ItemIsSelectable)
    name = QtWidgets.QTableWidgetItem(segment.GetName())
    name.setData(QtCore.Qt.UserRole, segment_id)
    return eye, color, name
