"""Slicer is closed, or crashes, during a run: the worker ends by itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from panel_scene import ROOT

pytest_plugins = "slicerhost.pytest_plugin"

SCRIPT = """
import os, sys
sys.path[:0] = [{panel!r}, {host!r}, {root!r}]
import panel_scene
from slicerhost import Host
host = Host()
host.load_module(panel_scene.MODULE)
panel = host.select_module("RegLoRASegment")
panel.logic.temporaryFolder = {folder!r}
panel.logic.workerCommand = panel_scene.standIn({scenario!r})
volume = panel_scene.makeVolume()
run = panel.logic.adapt(volume, panel_scene.makeSegmentation(volume))
host.wait_until(lambda: run.pid is not None, 20)
print(run.pid, flush=True)
{ending}
os._exit(0)
"""


def isAlive(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.parametrize(
    ("scenario", "ending"),
    [
        ("started,obey", "host.close()"),
        ("started,obey", "os._exit(1)"),
        ("started,ignore", "host.close()"),
    ],
    ids=["closed", "crashed", "closed with a deaf worker"],
)
def test_the_worker_ends_within_five_seconds(tmp_path, scenario, ending):
    panel, host = str(ROOT / "Testing" / "panel"), str(ROOT / "Testing" / "host")
    folder = str(tmp_path / "jobs")
    script = SCRIPT.format(
        panel=panel, host=host, root=str(ROOT), folder=folder, scenario=scenario, ending=ending
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    pid = int(done.stdout.split()[0])
    end = time.monotonic() + 5
    while isAlive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not isAlive(pid)
