"""Stand-in of qMRMLCheckableNodeComboBox: choose any number of MRML nodes."""

from PySide6 import QtCore, QtWidgets

from .dialect.ui_loader import stand_in
from .node_combo_box import qMRMLNodeComboBox


class _SummaryBox(QtWidgets.QComboBox):
    """Shows what is checked while it is closed."""

    summary = "None"

    def paintEvent(self, event):
        painter, option = QtWidgets.QStylePainter(self), QtWidgets.QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText = self.summary
        painter.drawComplexControl(QtWidgets.QStyle.CC_ComboBox, option)
        painter.drawControl(QtWidgets.QStyle.CE_ComboBoxLabel, option)


@stand_in
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Not modelled: checking all at once, and shortening a long summary."""

    _box_class = _SummaryBox
    checkedNodesChanged = QtCore.Signal()
    SIGNALS = {**qMRMLNodeComboBox.SIGNALS, "checkedNodesChanged()": "checkedNodesChanged"}

    _checked = frozenset()  # node ids
    _is_filling = False

    def __init__(self, parent=None):
        super().__init__(parent)
        self.noneEnabled = True
        self.addEnabled = self.removeEnabled = False
        self._box.model().itemChanged.connect(self._on_item_changed)

    def checkedNodes(self):
        return tuple(node for node in self._nodes() if node.GetID() in self._checked)

    def uncheckedNodes(self):
        return tuple(node for node in self._nodes() if node.GetID() not in self._checked)

    def allChecked(self):
        return not self.uncheckedNodes()

    def noneChecked(self):
        return not self.checkedNodes()

    def checkState(self, node):
        checked = node.GetID() in self._checked
        return QtCore.Qt.Checked if checked else QtCore.Qt.Unchecked

    def setCheckState(self, node, state):
        item = self._box.model().item(self._box.findData(node.GetID()))
        item.setCheckState(QtCore.Qt.CheckState(state))

    def _fill(self, nodes):
        self._is_filling = True
        super()._fill(nodes)
        for node in nodes:
            item = self._box.model().item(self._box.findData(node.GetID()))
            item.setCheckable(True)
            item.setCheckState(self.checkState(node))
        self._is_filling = False
        self._summarize()
        present = self._checked & {node.GetID() for node in nodes}
        if present != self._checked:
            self._checked = present
            self.checkedNodesChanged.emit()

    def _on_item_changed(self, item):
        node_id = item.data(QtCore.Qt.UserRole)
        if self._is_filling or not node_id or not item.isCheckable():
            return
        is_checked = item.checkState() == QtCore.Qt.Checked
        if is_checked != (node_id in self._checked):
            self._checked = self._checked ^ {node_id}
            self._summarize()
            self.checkedNodesChanged.emit()

    def _summarize(self):
        names = [node.GetName() for node in self.checkedNodes()]
        some = ", ".join(names) or "None"
        self._box.summary = "All" if names and self.allChecked() else some
        self._box.update()
