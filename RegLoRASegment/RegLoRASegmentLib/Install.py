"""Installs the Python packages of the computation, after asking; the panel opens without them.

torch comes through the extension PyTorch, which finds the build that fits the computer. Slicer's own
numpy and SimpleITK are pinned, so that a clash is found before anything is changed. It all happens on
the main thread: pip in a thread has crashed Slicer.
"""

from __future__ import annotations

import importlib
import subprocess
import tempfile
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from reglora_core.errors import RegLoRAError

TORCH = "torch>=2.4"
REQUIREMENTS = (
    "scipy>=1.11",
    "monai>=1.4",
    "einops>=0.7",
    "safetensors>=0.4.3",
    "matplotlib>=3.8",
)
OWN = ("numpy", "SimpleITK")  # Slicer's; never installed, never changed


class InstallError(RegLoRAError):
    """Packages that could not be installed: which, why, and what to do."""


def missing() -> list[str]:
    """Return the requirements that this Python does not meet."""
    return [text for text in (TORCH, *REQUIREMENTS) if not _isMet(text)]


def install() -> None:
    """Install what is missing; raise InstallError if that does not work or the user declines."""
    if TORCH in missing():
        _installTorch()
    wanted = [text for text in missing() if text != TORCH]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        constraints = _constraints(Path(folder))
        try:
            _ensure(wanted, constraints)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            raise _failure(wanted, error) from error
    _check(wanted)


def installFromFolder(folder: str) -> None:
    """Install what is missing from a folder of wheels, without a network."""
    wanted = missing()
    if not list(Path(folder).glob("*.whl")):
        problem = _("{folder} holds no wheels (*.whl)").format(folder=folder)
        raise InstallError(problem, _('fill it by "pip download {names}"').format(names=" ".join(wanted)))
    question = _("Install from {folder}: {names}?").format(folder=folder, names=", ".join(wanted))
    if not wanted or not slicer.util.confirmOkCancelDisplay(question):
        return
    with tempfile.TemporaryDirectory() as place:
        constraints = _constraints(Path(place))
        arguments = [*wanted, "--no-index", "--find-links", str(folder), "--constraint", str(constraints)]
        try:
            slicer.util.pip_install(arguments)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            raise _failure(wanted, error) from error
    _check(wanted)


def _installTorch() -> None:
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        hint = _("install the extension PyTorch in the Extensions Manager, restart Slicer, come back")
        raise InstallError(_("The extension PyTorch is missing"), hint) from error
    try:
        torch = PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=TORCH.removeprefix("torch")
        )
    except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        raise _failure([TORCH], error) from error
    if torch is None and not _isMet(TORCH):
        raise InstallError(_("torch was not installed"), _("press Install again when you want it"))


def _ensure(wanted: list[str], constraints: Path) -> None:
    try:
        from packaging.requirements import Requirement
        from slicer import packaging  # Slicer 5.11 and later
    except ImportError:
        question = _("These Python packages are needed: {names}. Install them?")
        if not slicer.util.confirmOkCancelDisplay(question.format(names=", ".join(wanted))):
            raise InstallError(
                _("The packages were not installed"), _("press Install again when you want them")
            ) from None
        slicer.util.pip_install([*wanted, "--constraint", str(constraints)])
        return
    packaging.pip_ensure(
        [Requirement(text) for text in wanted],
        constraints=str(constraints),
        skip_packages=list(OWN),
        requester="RegLoRASegment",
        skip_in_testing=False,
    )


def _constraints(folder: Path) -> Path:
    """Write a file that pins Slicer's own packages to what they are."""
    versions = {name: _version(name) for name in OWN}
    lines = [f"{name}=={version}" for name, version in versions.items() if version is not None]
    path = folder / "constraints.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _check(wanted: list[str]) -> None:
    importlib.invalidate_caches()
    left = [text for text in wanted if not _isMet(text)]
    if left:
        problem = _("Still missing: {names}").format(names=", ".join(left))
        raise InstallError(problem, _("restart Slicer; if it stays so, look into the error log"))


def _failure(wanted: list[str], error: Exception) -> InstallError:
    if isinstance(error, InstallError):
        return error
    problem = _("Not installed: {names} ({why})").format(names=", ".join(wanted), why=error)
    return InstallError(
        problem,
        _("check the network or the proxy, or install from a folder of wheels; nothing of Slicer changed"),
    )


def _isMet(text: str) -> bool:
    from packaging.version import Version  # packaging.requirements takes four times as long

    name, _sign, least = text.partition(">=")
    version = _version(name)
    return version is not None and Version(version) >= Version(least)


def _version(name: str) -> str | None:
    import importlib.metadata  # slow to import, and not needed to show the panel

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
