"""Writing label maps: .seg.nrrd with names and colours, other formats with values only."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253

from reglora_core.errors import InputError, OutputError
from reglora_core.volumes.files import quiet_itk, read_file
from reglora_core.volumes.label_maps import LabelMap
from reglora_core.volumes.seg_nrrd import segment_header, write_nrrd
from reglora_core.writing import write_atomically

SEGMENTATION_SUFFIX = ".seg.nrrd"
LABEL_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


def write_segmentation(path: Path, label_map: LabelMap, image: sitk.Image) -> None:
    """Write the organs on the image's grid, in the format that the file name asks for.

    ``.seg.nrrd`` keeps names, colours, terminology and overlaps and opens in Slicer as a
    segmentation; ``.nii.gz``, ``.nii``, ``.nrrd`` and ``.mha`` keep the label values. Ignored
    voxels are written as background.

    Raises:
        InputError: organs overlap and the format has one layer only.
        OutputError: the file cannot be written, or its suffix is none of these.
    """
    assert label_map.shape == image.GetSize()[::-1], "the label map lies on the image's grid"
    suffix = _suffix(path)
    if suffix == SEGMENTATION_SUFFIX:
        stored = [_smallest(layer) for layer in label_map.layers]
        widest = max(layer.dtype.itemsize for layer in stored)
        same = [layer.astype(f"u{widest}", copy=False) for layer in stored]
        header = segment_header(label_map.organs, label_map.layer_of, image.GetSize())
        write_atomically(path, lambda temporary: write_nrrd(temporary, same, image, header))
        return
    values = _smallest(_single_layer(path, label_map))
    if suffix == ".nrrd":
        write_atomically(path, lambda temporary: write_nrrd(temporary, [values], image, {}))
    else:
        write_atomically(path, lambda temporary: _write_with_itk(temporary, values, image))


def _suffix(path: Path) -> str:
    for suffix in (SEGMENTATION_SUFFIX, *LABEL_SUFFIXES):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return suffix
    message = f"{path}: cannot write this kind of file"
    raise OutputError(
        message, f"end the name in {SEGMENTATION_SUFFIX}, {', '.join(LABEL_SUFFIXES)}"
    )


def _single_layer(path: Path, label_map: LabelMap) -> NDArray[np.uint16]:
    try:
        return label_map.with_layers_merged().layers[0]
    except InputError as error:
        message = f"{path.name}: {error.message}, which this format cannot hold"
        raise InputError(message, f"write a {SEGMENTATION_SUFFIX} file") from error


def _smallest(layer: NDArray[np.uint16]) -> NDArray[np.unsignedinteger]:
    fits_a_byte = layer.max(initial=0) <= np.iinfo(np.uint8).max
    return layer.astype(np.uint8) if fits_a_byte else layer.astype(np.uint16, copy=False)


def _write_with_itk(path: Path, values: NDArray[np.unsignedinteger], image: sitk.Image) -> None:
    """Write and read back: ITK leaves half a NIfTI file on a full disk and says nothing."""
    labels = sitk.GetImageFromArray(values)
    labels.CopyInformation(image)
    try:
        with quiet_itk():
            sitk.WriteImage(labels, str(path), True)
        read_file(path)
    except (RuntimeError, InputError) as error:
        raise OSError(errno.EIO, _INCOMPLETE) from error


_INCOMPLETE = "not written completely; is the disk full or read-only?"
