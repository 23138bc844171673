"""Configure, build, install and ctest against a stub of Slicer; import from what was installed."""

import os
import shutil
import subprocess
import sys

import pytest

from update_lists import ROOT

STUB = ROOT / "Testing" / "packaging" / "stub"
HOST = ROOT / "Testing" / "host"
LIBRARY = "lib/Slicer-5.12/qt-scripted-modules"
IMPORT = """
import sys, os
sys.path[:0] = [{host!r}]
from slicerhost import Host
host = Host()
host.load_module({module!r})
panel = host.select_module("RegLoRASegment")
import reglora_core, RegLoRASegmentLib
for package in (reglora_core, RegLoRASegmentLib):
    assert package.__file__.startswith({folder!r}), package.__file__
from RegLoRASegmentLib.Logic import CORE_FOLDER
assert CORE_FOLDER == {folder!r}
print("imported from", CORE_FOLDER)
sys.stdout.flush()
os._exit(0)
"""

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The source is a copy of what is shipped, so that nothing else can be found by chance."""
    place = tmp_path_factory.mktemp("package")
    source, build = place / "source", place / "build"
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("reglora_core", "RegLoRASegment", "Resources"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    shutil.copy(ROOT / "CMakeLists.txt", source)
    launcher = f"-DSlicer_LAUNCHER_EXECUTABLE={HOST / 'Slicer'}"
    run("cmake", "-S", source, "-B", build, f"-DSlicer_DIR={STUB}", launcher)
    run("cmake", "--build", build)
    run("cmake", "--install", build, "--prefix", place / "installed")
    return place


def test_ctest_runs_the_modules_self_test(build):
    environment = {**os.environ, "SLICERHOST_PYTHON": sys.executable}
    command = ("ctest", "--test-dir", build / "build", "--output-on-failure", "--no-tests=error")
    assert "100% tests passed" in run(*command, env=environment)


def test_the_module_and_the_library_import_from_the_installed_tree(build):
    folder = build / "installed" / LIBRARY
    script = IMPORT.format(host=str(HOST), module=str(folder / "RegLoRASegment.py"), folder=str(folder))
    output = run(sys.executable, "-c", script, cwd=build)
    assert "imported from" in output


def test_the_worker_starts_from_the_installed_tree(build):
    folder = build / "installed" / LIBRARY
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    run(sys.executable, "-c", "import reglora_core.job, reglora_core.events", env=environment, cwd=build)


def test_a_file_that_is_listed_but_missing_stops_the_configuration(build):
    source = build / "broken"
    shutil.copytree(build / "source", source)
    (source / "RegLoRASegment" / "RegLoRASegmentLib" / "Logic.py").unlink()
    command = ("cmake", "-S", source, "-B", build / "broken-build", f"-DSlicer_DIR={STUB}")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "Logic.py is listed but not in" in done.stderr
