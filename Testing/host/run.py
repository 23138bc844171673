"""Open a scripted module in the test host.

python Testing/host/run.py MODULE.py [--script FILE.py] [--screenshot PNG] [--test] [--volume FILE]

Without --script, --screenshot or --test the window stays open until the user closes it. A script
finds the host as `host` and the module's panel as `panel`.
"""

import argparse
import os
import runpy
import sys
import traceback
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from slicerhost import Host


def main():
    arguments = _parse()
    host = Host(testing=arguments.test or bool(arguments.script))
    import slicer

    if arguments.volume:
        slicer.util.loadVolume(str(arguments.volume))
    host.load_module(arguments.module)
    panel = host.select_module(arguments.module.stem)
    if arguments.test:
        return _run_tests(arguments.module.stem)
    if arguments.script:
        runpy.run_path(str(arguments.script), {"host": host, "panel": panel}, "__main__")
    if arguments.screenshot:
        host.grab(arguments.screenshot)
    if not (arguments.script or arguments.screenshot):
        host.run_until_closed()
    host.close()
    return 0


def _parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", type=Path, help="the module's .py file")
    parser.add_argument("--script", type=Path, help="drive the host with this Python file")
    parser.add_argument("--screenshot", type=Path, help="write a picture of the window")
    parser.add_argument("--test", action="store_true", help="run the module's self-test class")
    parser.add_argument("--volume", type=Path, help="load this volume first")
    return parser.parse_args()


def _run_tests(name):
    suite = unittest.defaultTestLoader.loadTestsFromName(f"{name}.{name}Test")
    return 0 if unittest.TextTestRunner(verbosity=2).run(suite).wasSuccessful() else 1


if __name__ == "__main__":
    try:
        code = main()
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the interpreter's normal end crashes in VTK
