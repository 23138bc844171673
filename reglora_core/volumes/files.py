"""Opening volume files: damage and impossible geometry, found and put into words."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.volumes.nifti import check_nifti_file

MIN_SPACING_MM = 0.01
MAX_SPACING_MM = 50.0
# NIfTI stores its axes in single precision, DICOM with as few as six digits
_ORTHOGONAL = 1e-3

_ONE_AT_A_TIME = threading.RLock()
_RESAMPLE = "resample the volume onto a plain grid, for example in 3D Slicer, and save it again"


def read_file(path: Path) -> sitk.Image:
    """Read one file with SimpleITK.

    Raises:
        InputError: it is missing, of an unknown kind, damaged or cut short, or its voxel axes
            make no grid.
    """
    if not path.exists():
        message = f"{path}: no such file"
        raise InputError(message, "check the path")
    if path.is_dir():
        message = f"{path}: is a folder"
        raise InputError(message, "give the file itself")
    _check_can_be_opened(path)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        check_nifti_file(path)
    try:
        with quiet_itk():
            return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _read_error(path, error) from error


def check_geometry(name: str, image: sitk.Image) -> None:
    """Check that voxels have a possible size and that their axes are at right angles.

    Raises:
        InputError: they do not.
    """
    spacing = image.GetSpacing()
    if not all(MIN_SPACING_MM <= length <= MAX_SPACING_MM for length in spacing):
        listed = " x ".join(f"{length:g}" for length in spacing)
        message = f"{name}: its voxels would be {listed} mm"
        hint = f"correct the spacing in the file: {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm"
        raise InputError(message, hint)
    axes = np.array(image.GetDirection()).reshape(3, 3)
    placed = np.isfinite(axes).all() and np.isfinite(image.GetOrigin()).all()
    if not placed:
        message = f"{name}: its position or direction is not a number"
        raise InputError(message, "export it again")
    if np.abs(axes.T @ axes - np.eye(3)).max() > _ORTHOGONAL:
        message = f"{name}: its voxel axes are not at right angles (a sheared grid)"
        raise InputError(message, _RESAMPLE)


def reason_of(error: RuntimeError) -> str:
    """Return the last line of an ITK error, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("ITK ERROR: ").removeprefix("sitk::ERROR: ") if lines else ""


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep what ITK and the libraries in it print on stderr from the user.

    It says nothing that our own messages do not, and HDF5 alone prints 30 lines on a text file.
    One thread at a time: two that swap stderr at once would lose it for good.
    """
    with _ONE_AT_A_TIME, _itk_warnings_off(), _stderr_to_nowhere():
        yield


@contextmanager
def _itk_warnings_off() -> Iterator[None]:
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


@contextmanager
def _stderr_to_nowhere() -> Iterator[None]:
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, ValueError):  # a program without a console has no stderr to keep quiet
        yield
        return
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _check_can_be_opened(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        message = f"{path}: cannot be opened ({error.strerror})"
        raise InputError(message, "check the permission to read it") from error
    if is_empty:
        message = f"{path.name}: is empty"
        raise InputError(message, "copy or export it again")


def _read_error(path: Path, error: RuntimeError) -> InputError:
    text = str(error)
    if "orthonormal" in text or "determinant is 0" in text:
        message = f"{path.name}: its voxel axes are not at right angles (a sheared grid)"
        return InputError(message, _RESAMPLE)
    if "spacing" in text.lower():
        message = f"{path.name}: its voxels would have zero size ({reason_of(error)})"
        return InputError(message, "correct the spacing in the file")
    if "Unable to determine ImageIO" in text:
        message = f"{path.name}: not an image file that can be read"
        return InputError(message, "use NIfTI, NRRD, MetaImage or a DICOM folder")
    message = f"{path.name}: damaged or incomplete ({reason_of(error)})"
    return InputError(message, "copy or export it again")
