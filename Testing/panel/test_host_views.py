"""The test host's views are rendered by Slicer's displayable managers and show what is in MRML."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))
pytest_plugins = "slicerhost.pytest_plugin"


@pytest.fixture
def a_volume(host):
    """A dark volume with a bright block: i 4-11, j 4-11, k 2-7."""
    import slicer

    voxels = np.zeros((10, 16, 16), np.int16)
    voxels[2:8, 4:12, 4:12] = 100
    volume = slicer.util.addVolumeFromArray(voxels, np.diag([2, 2, 3, 1]), "scan")
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(0, 100)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume


@pytest.fixture
def a_segmentation(a_volume):
    """The bright block as one opaque green segment."""
    import slicer

    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(a_volume)
    segment = segmentation.GetSegmentation().AddEmptySegment("liver", "liver", (0, 0.5, 0))
    block = (slicer.util.arrayFromVolume(a_volume) > 0).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(block, segmentation, segment, a_volume)
    segmentation.GetDisplayNode().SetOpacity2DFill(1)
    return segmentation


def _pixel(view, ras):
    """Return row and column of the view's picture that show a point."""
    import slicer

    canvas = slicer.app.layoutManager().sliceWidget(view).sliceView()
    x, y, _ = canvas.convertRASToXYZ(ras)
    return canvas.height - 1 - round(y), round(x)


def test_a_slice_view_shows_the_volume(host, a_volume):
    import slicer

    slicer.app.layoutManager().sliceWidget("Red").sliceLogic().SetSliceOffset(15)

    picture = host.view_picture("Red")

    assert picture[_pixel("Red", (16, 16, 15))].tolist() == [255, 255, 255]
    assert picture[_pixel("Red", (2, 2, 15))].tolist() == [0, 0, 0]


def test_a_slice_view_shows_a_segment_in_its_colour(host, a_segmentation):
    import slicer

    slicer.app.layoutManager().sliceWidget("Red").sliceLogic().SetSliceOffset(15)

    color = host.view_picture("Red")[_pixel("Red", (16, 16, 15))]

    np.testing.assert_allclose(color, [0, 128, 0], atol=2)


def test_a_hidden_segment_is_not_shown(host, a_segmentation):
    import slicer

    slicer.app.layoutManager().sliceWidget("Red").sliceLogic().SetSliceOffset(15)
    a_segmentation.GetDisplayNode().SetSegmentVisibility("liver", False)

    color = host.view_picture("Red")[_pixel("Red", (16, 16, 15))]

    assert color.tolist() == [255, 255, 255]


def test_the_3d_view_shows_a_surface(host, a_segmentation):
    import slicer

    before = _green_pixels(host.view_picture("3D"))
    a_segmentation.CreateClosedSurfaceRepresentation()
    slicer.app.layoutManager().resetThreeDViews()

    after = _green_pixels(host.view_picture("3D"))

    assert before == 0
    assert after > 1000


def _green_pixels(picture):
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    return int(((green > red + 30) & (green > blue + 30)).sum())


def test_the_wheel_scrolls_through_slices(host, a_volume):
    import slicer
    from slicerhost.mouse import scroll

    widget = slicer.app.layoutManager().sliceWidget("Red")
    widget.sliceLogic().SetSliceOffset(15)

    scroll(widget.sliceView(), 1)

    assert widget.sliceLogic().GetSliceOffset() == pytest.approx(18)


def test_a_view_is_drawn_again_when_mrml_changes(host, a_volume):
    import slicer

    slicer.app.layoutManager().sliceWidget("Red").sliceLogic().SetSliceOffset(15)
    host.render()
    a_volume.GetDisplayNode().SetWindowLevelMinMax(0, 200)

    canvas = slicer.app.layoutManager().sliceWidget("Red").sliceView()
    assert canvas.needsRender()
    host.wait_until(lambda: not canvas.needsRender(), timeout=5)
    shown = canvas.grab().toImage().pixelColor(*_pixel("Red", (16, 16, 15))[::-1])

    assert shown.red() == pytest.approx(128, abs=2)


def test_a_chart_is_drawn_in_the_plot_view(host):
    import slicer

    table = slicer.util.updateTableFromArray(None, [np.arange(5.0), np.arange(5.0)], ["x", "loss"])
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "loss")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("x")
    series.SetYColumnName("loss")
    series.SetPlotType(series.PlotTypeScatter)
    series.SetColor(1, 0, 0)
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "Loss")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())

    slicer.modules.plots.logic().ShowChartInLayout(chart)
    host.process_events(0.1)
    picture = slicer.app.layoutManager().plotWidget(0).plotView().renderNow()

    assert (picture == [255, 0, 0]).all(axis=-1).sum() > 100


def test_a_layout_that_the_host_does_not_have_is_refused(host):
    import slicer

    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutDual3DView)

    assert "no view layout" in str(host.errors.take()[0])


def test_a_grab_holds_the_whole_window_and_the_rendered_views(host, a_volume, tmp_path):
    import qt
    import slicer

    slicer.app.layoutManager().sliceWidget("Red").sliceLogic().SetSliceOffset(15)
    path = tmp_path / "pictures" / "window.png"

    host.grab(path)

    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    assert (width, height) == (host.main_window.width, host.main_window.height)
    canvas = slicer.app.layoutManager().sliceWidget("Red").sliceView()
    row, column = _pixel("Red", (16, 16, 15))
    place = canvas.mapTo(host.main_window, qt.QPoint(column, row))
    assert qt.QImage(str(path)).pixelColor(place).name() == "#ffffff"
