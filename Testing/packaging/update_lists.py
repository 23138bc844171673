"""Writes the lists of files that CMake builds and installs: python Testing/packaging/update_lists.py.

CMake's lists are explicit, as Slicer asks; test_lists.py compares them with the tree.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "RegLoRASegment"
_NOT_SHIPPED = ("__pycache__", ".mypy_cache", ".ruff_cache")


def _files(folder, start):
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [
        path.relative_to(start).as_posix()
        for path in paths
        if not any(part in _NOT_SHIPPED or part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]


def core_scripts():
    return [name for name in _files(ROOT / "reglora_core", ROOT) if name.endswith(".py")]


def core_resources():
    return [name for name in _files(ROOT / "reglora_core", ROOT) if not name.endswith((".py", ".pyc"))]


def module_scripts():
    return ["RegLoRASegment.py", *_files(MODULE / "RegLoRASegmentLib", MODULE)]


def module_resources():
    return _files(MODULE / "Resources", MODULE)


def lists():
    """Return file -> text."""
    core = _cmake("REGLORA_CORE_SCRIPTS", core_scripts())
    core += _cmake("REGLORA_CORE_RESOURCES", core_resources())
    module = _cmake("MODULE_PYTHON_SCRIPTS", module_scripts())
    module += _cmake("MODULE_PYTHON_RESOURCES", module_resources())
    note = "# Written by Testing/packaging/update_lists.py; a test compares it with the tree.\n\n"
    return {MODULE / "CoreFiles.cmake": note + core, MODULE / "ModuleFiles.cmake": note + module}


def _cmake(name, paths):
    lines = "".join(f"  {path}\n" for path in paths)
    return f"set({name}\n{lines}  )\n"


if __name__ == "__main__":
    for path, text in lists().items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
