"""Reading images: every refusal is one line that says what to do about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.volumes.dicom import read_dicom_folder
from reglora_core.volumes.files import check_geometry, read_file

MIN_VOXELS_PER_AXIS = 2


def read_image(path: Path) -> sitk.Image:
    """Read a volume: a file that SimpleITK reads, or a folder with one DICOM series.

    Returns:
        A three-dimensional image of real numbers, finite and not constant.

    Raises:
        InputError: there is no such file, it is damaged, it is not a volume (2D, several time
            points or colours), its geometry is impossible or its voxels hold no image.
    """
    name = path.absolute().name  # "." has none of its own
    if path.is_dir():
        image = read_dicom_folder(path)
    else:
        image = read_file(path)
    _check_is_scalar(name, image)
    image = drop_single_time_point(name, image)
    _check_has_depth(name, image)
    check_geometry(name, image)
    _check_voxels(name, image)
    return image


def drop_single_time_point(name: str, image: sitk.Image) -> sitk.Image:
    """Return the volume of an image of three axes, or of four if the last has one time point.

    Raises:
        InputError: it has two axes, or several time points.
    """
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        return image[:, :, :, 0]
    if image.GetDimension() == 3:
        return image
    size = " x ".join(map(str, image.GetSize()))
    message = f"{name}: is {image.GetDimension()}D ({size}), not one volume"
    if image.GetDimension() > 3:
        raise InputError(message, "save one time point as a file of its own")
    raise InputError(message, "give a 3D volume, or the folder of a whole DICOM series")


def _check_is_scalar(name: str, image: sitk.Image) -> None:
    if "complex" in image.GetPixelIDTypeAsString():
        message = f"{name}: holds complex numbers"
        raise InputError(message, "give the magnitude image")
    components = image.GetNumberOfComponentsPerPixel()
    if components > 1:
        message = f"{name}: has {components} values per voxel (colour or vectors)"
        raise InputError(message, "give an image with one grey value per voxel")


def _check_has_depth(name: str, image: sitk.Image) -> None:
    if min(image.GetSize()) >= MIN_VOXELS_PER_AXIS:
        return
    size = " x ".join(map(str, image.GetSize()))
    message = f"{name}: is a single slice ({size})"
    raise InputError(message, "give a 3D volume, or the folder of a whole DICOM series")


def _check_voxels(name: str, image: sitk.Image) -> None:
    voxels = sitk.GetArrayViewFromImage(image)
    if np.issubdtype(voxels.dtype, np.floating):
        bad = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
        if bad:
            message = f"{name}: {bad} voxels are NaN or infinite"
            raise InputError(message, "replace them, in CT by the value of air (-1000)")
    if voxels.min() == voxels.max():
        message = f"{name}: every voxel is {voxels.flat[0]}"
        raise InputError(message, "there is nothing to see in it; check the export")
