"""Import rules: what knows no Slicer, and what knows nothing beyond the standard library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import reglora_core

ROOT = Path(reglora_core.__file__).parent
FORBIDDEN = {"slicer", "qt", "ctk", "vtk", "vtkmodules", "PythonQt"}
STANDARD_LIBRARY_ONLY = [
    "reglora_core",
    "reglora_core.job",
    "reglora_core.events",
    "reglora_core.errors",
    "reglora_core.organs",
    "reglora_core.writing",
    "reglora_core.output",
    "reglora_core.models.command",
    "reglora_core.models.download",
    "reglora_core.models.entry",
    "reglora_core.models.published",
    "reglora_core.models.registry",
    "reglora_core.progress",
    "reglora_core.cli",
]
ISOLATED = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
own = {name.partition(".")[0] for name in sys.modules} - {"reglora_core", "__main__"}
print(*sorted(own - set(sys.stdlib_module_names)))
"""


def imported_by(path: Path) -> set[str]:
    """Return the top-level packages that a file imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_core_knows_no_slicer(path: Path) -> None:
    assert not imported_by(path) & FORBIDDEN


def test_the_contract_needs_nothing_beyond_the_standard_library() -> None:
    """Without site packages, as in a Slicer that has no torch yet."""
    command = [sys.executable, "-I", "-S", "-c", ISOLATED, str(ROOT.parent)]
    done = subprocess.run(
        [*command, *STANDARD_LIBRARY_ONLY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_a_job_can_be_written_and_a_model_listed_without_site_packages(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from reglora_core.cli import main\n"
        "sys.exit(main(['models', 'list']))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT.parent)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "reglora-tiny" in done.stdout
