"""The whole journey with the real worker on a real CT: load, paint by mouse, Adapt, Apply, reuse."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import slicer

import panel_scene
from journey import Journey, dataFolder, workerPython

pytest_plugins = "slicerhost.pytest_plugin"


@pytest.fixture
def needs():
    if not (dataFolder() / "ct_abdomen_3mm").is_dir():
        pytest.skip(f"no real scans at {dataFolder()} (set REGLORA_DATA)")
    if shutil.which(workerPython()) is None:
        pytest.skip(f"no interpreter with torch at {workerPython()} (set REGLORA_WORKER_PYTHON)")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.usefixtures("needs")
def test_from_a_ct_to_organs_and_on_to_the_next_patient(host, tmp_path):
    journey = Journey(host, tmp_path / "pictures", budget=20)
    journey.load()
    journey.paint()
    assert journey.ui.slicesTable.rowCount == journey.sliceCount
    segmentation, volume = journey.segmentation, journey.volume
    painted = {name: panel_scene.maskOf(segmentation, name, volume) for name in journey.masks}
    journey.suggest()
    journey.adapt()
    assert journey.run.state.value == "finished"
    journey.plots()
    journey.apply()
    for name, mask in painted.items():
        after = panel_scene.maskOf(segmentation, name, volume)
        np.testing.assert_array_equal(after[journey.painted], mask[journey.painted])
    assert min(journey.figures["dice"].values()) > 0.6
    description = journey.saveAdapter(tmp_path / "organs.safetensors")
    assert set(description.organs) == set(painted)
    assert description.path.stat().st_size < 2**20
    run, other = journey.applyAdapter()
    journey.panel.logic.apply(run)
    node = slicer.util.getNode("Next patient segmentation")
    assert panel_scene.maskOf(node, "liver", other).any()
    pictures = sorted(path.name for path in Path(tmp_path / "pictures").iterdir())
    assert len(pictures) == 8
    for run in list(journey.panel.logic.runs):
        journey.panel.logic.discard(run)
    journey.panel.parameters.workerPython = ""
