"""The module `qt` of the test host speaks PythonQt, and refuses what PythonQt refuses."""

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))
pytest_plugins = "slicerhost.pytest_plugin"


@pytest.fixture
def qt(host):
    import qt

    return qt


def test_a_property_is_an_attribute_that_keeps_its_setter(qt):
    button = qt.QPushButton("Run")

    button.text = "Stop"
    button.setEnabled(False)

    assert (button.text, button.enabled) == ("Stop", False)


def test_a_new_attribute_on_a_qt_object_raises(qt):
    button = qt.QPushButton()

    with pytest.raises(AttributeError, match="'colour' does not exist on QPushButton"):
        button.colour = "red"


def test_a_new_attribute_on_a_stand_in_raises(host):
    import ctk

    with pytest.raises(AttributeError, match="'colapsed' does not exist on ctkCollapsibleButton"):
        ctk.ctkCollapsibleButton().colapsed = True


def test_a_python_class_derived_from_a_qt_class_takes_attributes(qt):
    class Worker(qt.QObject):
        pass

    worker = Worker()
    worker.count = 3

    assert worker.count == 3


def test_a_read_only_property_cannot_be_set(qt):
    with pytest.raises(AttributeError):
        qt.QTimer().active = True


def test_a_connection_hands_over_as_many_arguments_as_the_function_takes(qt):
    button = qt.QPushButton()
    seen = []
    button.connect("clicked(bool)", lambda checked: seen.append(checked))
    button.connect("clicked(bool)", lambda: seen.append("nothing"))
    button.clicked.connect(lambda: seen.append("new style"))

    button.click()

    assert seen == [False, "nothing", "new style"]


@pytest.mark.parametrize("signature", ["clickd(bool)", "clicked(int)", "clicked"])
def test_an_unknown_signal_raises(qt, signature):
    with pytest.raises(ValueError, match="clic"):
        qt.QPushButton().connect(signature, lambda: None)


def test_an_unknown_signal_of_a_stand_in_raises(host):
    import slicer

    with pytest.raises(ValueError, match=r"has no signal 'currentNodeChanged\(int\)'"):
        slicer.qMRMLNodeComboBox().connect("currentNodeChanged(int)", lambda: None)


def test_an_unknown_class_raises(host):
    import ctk

    with pytest.raises(AttributeError):
        ctk.ctkTreeComboBox  # noqa: B018 - reading it is the test


def test_a_disconnected_function_is_not_called(qt):
    button = qt.QPushButton()
    seen = []
    button.connect("clicked()", seen.append)

    assert button.disconnect("clicked()", seen.append)
    button.click()

    assert seen == []
    assert not button.disconnect("clicked()", seen.append)


def test_an_error_in_a_slot_is_raised_by_the_event_loop(host, qt):
    timer = qt.QTimer()
    timer.singleShot = True
    timer.connect("timeout()", lambda: 1 / 0)
    timer.start(0)

    with pytest.raises(ZeroDivisionError):
        host.process_events(0.05)


def test_timers_run_in_the_event_loop(host, qt):
    ticks = []
    qt.QTimer.singleShot(20, lambda: ticks.append(time.perf_counter()))
    start = time.perf_counter()

    host.wait_until(lambda: ticks, timeout=2)

    assert ticks[0] - start >= 0.015


def test_waiting_too_long_raises(host):
    with pytest.raises(TimeoutError):
        host.wait_until(lambda: False, timeout=0.05)


def test_children_come_as_a_tuple_and_enums_compare_to_numbers(qt):
    parent = qt.QWidget()
    qt.QPushButton(parent)
    box = qt.QCheckBox(parent)
    box.checked = True

    assert isinstance(parent.findChildren(qt.QPushButton), tuple)
    assert box.checkState() == 2


def test_a_process_talks_to_its_parent(host, qt):
    process = qt.QProcess()
    lines, ended = [], []
    code = "import sys; print(sys.stdin.readline().strip() + '!', flush=True); sys.exit(3)"

    def read():
        while process.canReadLine():
            lines.append(process.readLine().data())

    process.connect("readyReadStandardOutput()", read)
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ended.append(code))
    process.start(sys.executable, ["-c", code])
    process.waitForStarted()
    process.write(b"cancel\n")
    host.wait_until(lambda: ended, timeout=10)

    assert lines == [b"cancel!\n"]
    assert ended == [3]


def test_a_blocked_event_loop_is_measured(host, qt):
    qt.QTimer.singleShot(10, lambda: time.sleep(0.12))

    with host.measure_stalls() as stalls:
        host.process_events(0.3)

    assert 0.12 <= stalls.longest < 0.25
