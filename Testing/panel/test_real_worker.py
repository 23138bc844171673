"""The panel's logic with the real worker: what it is given at the edge of what can be computed."""

import json
import shutil
import struct

import numpy as np
import pytest
import slicer

from journey import workerPython
from panel_scene import MODULE, makeSegmentation, makeVolume, maskOf

pytest_plugins = "slicerhost.pytest_plugin"
pytestmark = pytest.mark.slow


@pytest.fixture
def logic(host, tmp_path):
    if shutil.which(workerPython()) is None:
        pytest.skip(f"no interpreter with torch at {workerPython()} (set REGLORA_WORKER_PYTHON)")
    if not hasattr(slicer.modules, "reglorasegment"):
        host.load_module(MODULE)
    from RegLoRASegment import RegLoRASegmentLogic

    logic = RegLoRASegmentLogic()
    logic.temporaryFolder = str(tmp_path / "jobs")
    logic.workerCommand = [workerPython(), "-m", "reglora_core"]
    yield logic
    logic.close()


@pytest.fixture
def adapted(logic):
    """A run on one organ that is painted on one slice."""
    volume = makeVolume()
    segmentation = makeSegmentation(volume, slices=(8,))
    segmentation.GetSegmentation().RemoveSegment("spleen")
    return logic.adapt(volume, segmentation, wait=True, method="head", steps=1)


def test_one_organ_on_one_slice_gives_a_result_and_a_warning(logic, adapted):
    assert adapted.state.value == "finished", f"{adapted.message} {adapted.hint}\n{adapted.log}"
    assert any("one slice" in text for text in adapted.warnings)
    painted = maskOf(adapted.segmentationNode, "liver", adapted.volumeNode)
    logic.apply(adapted)
    liver = maskOf(adapted.segmentationNode, "liver", adapted.volumeNode)
    np.testing.assert_array_equal(liver[8], painted[8])
    assert liver.sum() >= painted.sum()


def test_an_adapter_that_does_not_fit_says_why(logic, adapted, tmp_path):
    path = logic.saveAdapter(tmp_path / "organs", adapted).path
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    description = json.loads(header["__metadata__"]["reglora"])
    description["base_sha256"] = "0" * 64
    header["__metadata__"]["reglora"] = json.dumps(description)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    (run,) = logic.applyAdapter(adapted.volumeNode, path, wait=True)
    assert run.state.value == "failed"
    assert "weights 000000000000" in run.message
    assert run.hint
    assert not run.hasResult
