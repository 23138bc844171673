"""Stand-in of ctkSliderWidget: a slider and a spin box with one floating-point value."""

from PySide6 import QtCore, QtWidgets

from .dialect.ui_loader import stand_in
from .stored_property import stored

_STEPS = 1000


@stand_in
class ctkSliderWidget(QtWidgets.QWidget):
    """Not modelled: ticks, inverted controls, the popup slider, synchronized siblings."""

    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)
    SIGNALS = {"valueChanged(double)": "valueChanged", "valueIsChanging(double)": "valueIsChanging"}

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self._slider.setRange(0, _STEPS)
        self._spin = QtWidgets.QDoubleSpinBox()
        self._spin.setRange(0, 99)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._spin)
        self._is_following = False
        self._spin.valueChanged.connect(self._on_spin)
        self._slider.valueChanged.connect(self._on_slider)

    def _forwarded(name, kind=float):
        def read(self):
            return getattr(self._spin, name)

        def write(self, value):
            setattr(self._spin, name, value)
            self._follow()

        return QtCore.Property(kind, read, write), write

    value, setValue = _forwarded("value")
    minimum, setMinimum = _forwarded("minimum")
    maximum, setMaximum = _forwarded("maximum")
    singleStep, setSingleStep = _forwarded("singleStep")
    decimals, setDecimals = _forwarded("decimals", int)
    prefix, setPrefix = _forwarded("prefix", str)
    suffix, setSuffix = _forwarded("suffix", str)
    del _forwarded
    pageStep, setPageStep = stored(float, "pageStep", 10.0)
    tracking, setTracking = stored(bool, "tracking", True)
    spinBoxVisible, setSpinBoxVisible = stored(
        bool, "spinBoxVisible", True, lambda self: self._spin.setVisible(self.spinBoxVisible)
    )

    def setRange(self, minimum, maximum):
        self._spin.setRange(minimum, maximum)
        self._follow()

    def _on_spin(self, value):
        self._follow()
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _on_slider(self, position):
        if not self._is_following:
            step = self._spin.singleStep or 1
            low, high = self._spin.minimum, self._spin.maximum
            self._spin.setValue(low + round((high - low) * position / _STEPS / step) * step)

    def _follow(self):
        low, high = self._spin.minimum, self._spin.maximum
        self._is_following = True
        if high > low:
            self._slider.setValue(round((self._spin.value - low) / (high - low) * _STEPS))
        self._is_following = False
