"""The Slicer launcher's command line, on the test host.

Slicer --testing --no-main-window --additional-module-paths DIR... --python-code CODE
Slicer --testing --additional-module-paths DIR... --python-script FILE [ARGUMENT...]

Scripted modules are the DIR/<Name>.py that define a class <Name>. Options of the real launcher that
change nothing here (--no-splash, --disable-cli-modules, ...) are accepted; others are refused.
"""

import argparse
import ast
import os
import runpy
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from slicerhost import Host

_WITHOUT_EFFECT = (
    "--no-splash",
    "--disable-builtin-modules",
    "--disable-builtin-cli-modules",
    "--disable-cli-modules",
    "--disable-scripted-loadable-modules",
    "--disable-modules",
    "--ignore-slicerrc",
    "--disable-settings",
    "--disable-terminal-outputs",
    "--verbose",
)


def main():
    options = _parse()
    host = Host(testing=options.testing, window=not options.no_main_window)
    for folder in options.additional_module_paths:
        for path in sorted(Path(folder).glob("*.py")):
            if _is_scripted_module(path):
                host.load_module(path)
    if options.python_code is not None:
        exec(options.python_code.replace("\\;", ";"), {"__name__": "__main__"})
    if options.python_script:
        sys.argv = options.python_script
        runpy.run_path(sys.argv[0], {"host": host}, "__main__")
    elif not (options.exit_after_startup or options.python_code is not None):
        host.run_until_closed()
    return 0


def _parse():
    parser = argparse.ArgumentParser(prog="Slicer", description=__doc__.splitlines()[0])
    parser.add_argument("--testing", action="store_true")
    parser.add_argument("--no-main-window", action="store_true")
    parser.add_argument("--exit-after-startup", action="store_true")
    parser.add_argument(
        "--additional-module-paths", "--additional-module-path", nargs="+", default=[]
    )
    parser.add_argument("--python-code")
    parser.add_argument("--python-script", nargs=argparse.REMAINDER)
    for option in _WITHOUT_EFFECT:
        parser.add_argument(option, action="store_true")
    return parser.parse_args()


def _is_scripted_module(path):
    body = ast.parse(path.read_text()).body
    return any(isinstance(node, ast.ClassDef) and node.name == path.stem for node in body)


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
