"""Reading a folder with one DICOM series."""

from __future__ import annotations

from pathlib import Path

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.volumes.files import quiet_itk, reason_of

_POSITION = "0020|0032"
_UNEVEN = 0.05  # of the spacing: how far a slice may lie from where an even stack has it
_TILT_MM_PER_MM = 0.002  # sideways shift from slice to slice: 1 mm over half a metre


def read_dicom_folder(folder: Path) -> sitk.Image:
    """Read the only DICOM series of a folder.

    Raises:
        InputError: no series, several, slices that are missing or unreadable, or a tilted gantry.
    """
    name = folder.absolute().name
    with quiet_itk():
        series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        files = {
            uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in series
        }
    slices = _files_of_the_only_series(folder, files)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(slices)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        with quiet_itk():
            image = reader.Execute()
    except RuntimeError as error:
        message = f"{name}: the DICOM series cannot be read ({reason_of(error)})"
        raise InputError(message, "export the series again") from error
    if len(slices) > 1:
        _check_stack(name, image, _positions(reader, len(slices)))
    return image


def _files_of_the_only_series(folder: Path, files: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    if not files:
        message = f"{folder}: no DICOM files in this folder"
        raise InputError(message, "give a file, or the folder that holds one DICOM series")
    if len(files) > 1:
        listed = ", ".join(f"{uid} ({len(names)} slices)" for uid, names in sorted(files.items()))
        message = f"{folder.absolute().name}: holds {len(files)} DICOM series: {listed}"
        raise InputError(message, "give a folder with only the one wanted")
    return next(iter(files.values()))


def _positions(reader: sitk.ImageSeriesReader, count: int) -> NDArray[np.float64] | None:
    """Return each slice's origin (slice, xyz) in mm, or nothing if the files do not say."""
    if not all(reader.HasMetaDataKey(number, _POSITION) for number in range(count)):
        return None
    texts = [reader.GetMetaData(number, _POSITION) for number in range(count)]
    return np.array([[float(part) for part in text.split("\\")] for text in texts])


def _check_stack(name: str, image: sitk.Image, positions: NDArray[np.float64] | None) -> None:
    if positions is None or image.GetSize()[2] != len(positions):
        return
    normal = np.array(image.GetDirection()).reshape(3, 3)[:, 2]
    steps = np.diff(positions, axis=0)
    along = steps @ normal
    if along.max() - along.min() > _UNEVEN * image.GetSpacing()[2]:
        message = (
            f"{name}: slices are not evenly spaced ({along.min():.2f} to {along.max():.2f} mm)"
        )
        raise InputError(message, "some are missing or doubled; export the whole series again")
    sideways = np.linalg.norm(steps - np.outer(along, normal), axis=1).max()
    if sideways > _TILT_MM_PER_MM * along.mean():
        message = f"{name}: slices shift sideways by {sideways:.2f} mm each (a tilted gantry)"
        raise InputError(message, "load it in 3D Slicer, which straightens it, and save as .nrrd")
