"""The panel's benchmark names the step behind a stall: the steps that it watches must be there."""

import importlib
import sys

import pytest
import slicer

from panel_scene import MODULE, ROOT

pytest_plugins = "slicerhost.pytest_plugin"
sys.path.append(str(ROOT / "Testing" / "benchmarks"))

from stall_causes import WATCHED  # noqa: E402


@pytest.mark.parametrize(("module", "path"), WATCHED)
def test_every_watched_step_is_there(host, module, path):
    if not hasattr(slicer.modules, "reglorasegment"):
        host.load_module(MODULE)
    owner, name = path.split(".")
    assert callable(getattr(getattr(importlib.import_module(module), owner), name))
