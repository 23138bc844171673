"""Stand-in of ctkCollapsibleButton: a header that folds the widgets below it away."""

from PySide6 import QtCore, QtGui, QtWidgets

from .dialect.ui_loader import stand_in
from .stored_property import stored

_PADDING = 11
_UNLIMITED = 16777215


@stand_in
class ctkCollapsibleButton(QtWidgets.QWidget):
    """Not modelled: icons, checkability apart from folding, QAbstractButton's other signals."""

    contentsCollapsed = QtCore.Signal(bool)
    toggled = QtCore.Signal(bool)
    clicked = QtCore.Signal(bool)
    SIGNALS = {
        "contentsCollapsed(bool)": "contentsCollapsed",
        "toggled(bool)": "toggled",
        "clicked(bool)": "clicked",
    }

    def __init__(self, text="", parent=None):
        super().__init__(text if isinstance(text, QtWidgets.QWidget) else parent)
        self._text = text if isinstance(text, str) else ""
        self._collapsed = False
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Minimum, QtWidgets.QSizePolicy.Preferred)

    def _is_collapsed(self):
        return self._collapsed

    def setCollapsed(self, collapsed):
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self._show_contents()
        self.contentsCollapsed.emit(collapsed)
        self.toggled.emit(not collapsed)

    def collapse(self, collapsed=True):
        self.setCollapsed(collapsed)

    def click(self):
        self.setCollapsed(not self._collapsed)
        self.clicked.emit(not self._collapsed)

    def _get_text(self):
        return self._text

    def setText(self, text):
        self._text = text
        self.update()

    collapsed = QtCore.Property(bool, _is_collapsed, setCollapsed)
    checked = QtCore.Property(
        bool, lambda self: not self._collapsed, lambda self, value: self.setCollapsed(not value)
    )
    text = QtCore.Property(str, _get_text, setText)
    flat, setFlat = stored(bool, "flat", False)
    contentsFrameShape, setContentsFrameShape = stored(int, "contentsFrameShape", 0)
    contentsLineWidth, setContentsLineWidth = stored(int, "contentsLineWidth", 1)
    collapsedHeight, setCollapsedHeight = stored(int, "collapsedHeight", 10)

    # Children are hidden when shown, not when added: a Python childEvent crashes QUiLoader.
    def showEvent(self, event):
        super().showEvent(event)
        self._show_contents()

    def minimumSizeHint(self):
        return self._with_header(super().minimumSizeHint())

    def sizeHint(self):
        return self._with_header(super().sizeHint())

    def mousePressEvent(self, event):
        if event.position().y() <= self._header_height():
            self.click()

    def paintEvent(self, _event):
        painter = QtWidgets.QStylePainter(self)
        height = self._header_height()
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width, height)
        option.state |= QtWidgets.QStyle.State_Raised
        painter.drawControl(QtWidgets.QStyle.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, (height - 14) // 2, 14, 14)
        down, right = (
            QtWidgets.QStyle.PE_IndicatorArrowDown,
            QtWidgets.QStyle.PE_IndicatorArrowRight,
        )
        painter.drawPrimitive(right if self._collapsed else down, arrow)
        painter.drawItemText(
            QtCore.QRect(26, 0, self.width - 30, height),
            QtCore.Qt.AlignLeft | QtCore.Qt.AlignVCenter | QtCore.Qt.TextShowMnemonic,
            self.palette,
            self.enabled,
            self._text,
            QtGui.QPalette.ButtonText,
        )

    def _header_height(self):
        return self.fontMetrics().height() + _PADDING

    def _with_header(self, size):
        header = self._header_height()
        return QtCore.QSize(size.width(), header if self._collapsed else max(size.height(), header))

    def _show_contents(self):
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(not self._collapsed)
        self.setMaximumHeight(self._header_height() if self._collapsed else _UNLIMITED)
        self.updateGeometry()
        self.update()
