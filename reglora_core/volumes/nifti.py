"""What ITK does not notice in a NIfTI file.

ITK reads a file that was cut short as zeros from there on, takes a voxel size of zero or NaN for
1 mm, mirrors the axis of a negative one even where the file's matrix says otherwise, and picks one
of two voxel sizes that contradict each other. All of these would pass as a scan; here they are
refused before ITK sees them.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reglora_core.errors import InputError

_HEADER_BYTES = 540  # NIfTI-2; NIfTI-1 has 348 and four more
_CHUNK_BYTES = 1 << 20
_CONTRADICTION = 0.01  # relative; ITK takes pixdim and says so only on stderr
_AGAIN = "copy or export it again"


@dataclass(frozen=True)
class _Header:
    size: tuple[int, ...]  # voxels per axis
    spacing: tuple[float, ...]  # mm, of the first three axes
    bits_per_voxel: int
    offset: int  # bytes before the first voxel
    matrix: tuple[float, ...] | None  # the sform, 3 x 4, where it alone gives the direction


def check_nifti_file(path: Path) -> None:
    """Check that all voxels are there and that they have a size.

    Raises:
        InputError: the file is cut short or damaged, or its voxel size is not positive.
    """
    try:
        with _opened(path) as file:
            header = _header(file.read(_HEADER_BYTES))
            if header is None:
                return  # not NIfTI: ITK says so itself
            _check_spacing(path.name, header)
            _check_length(path, file, header)
    except (OSError, EOFError, zlib.error, OverflowError, ValueError) as error:
        message = f"{path.name}: damaged or cut short ({error})"
        raise InputError(message, _AGAIN) from error


def _opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if is_compressed else path.open("rb")


def _header(content: bytes) -> _Header | None:
    for order in "<>":
        length = struct.unpack_from(f"{order}i", content)[0] if len(content) >= 4 else 0
        if length == 348 and len(content) >= 348:
            return _first_version(content, order)
        if length == 540 and len(content) >= 540:
            return _second_version(content, order)
    return None


def _first_version(content: bytes, order: str) -> _Header:
    dim = struct.unpack_from(f"{order}8h", content, 40)
    spacing = struct.unpack_from(f"{order}8f", content, 76)
    bits = struct.unpack_from(f"{order}h", content, 72)[0]
    offset = struct.unpack_from(f"{order}f", content, 108)[0]
    qform, sform = struct.unpack_from(f"{order}hh", content, 252)
    matrix = struct.unpack_from(f"{order}12f", content, 280) if sform > 0 >= qform else None
    return _Header(dim[1 : 1 + dim[0]], spacing[1:4], bits, int(offset), matrix)


def _second_version(content: bytes, order: str) -> _Header:
    dim = struct.unpack_from(f"{order}8q", content, 16)
    spacing = struct.unpack_from(f"{order}8d", content, 104)
    bits = struct.unpack_from(f"{order}h", content, 14)[0]
    offset = struct.unpack_from(f"{order}q", content, 168)[0]
    qform, sform = struct.unpack_from(f"{order}ii", content, 344)
    matrix = struct.unpack_from(f"{order}12d", content, 400) if sform > 0 >= qform else None
    return _Header(dim[1 : 1 + dim[0]], spacing[1:4], bits, offset, matrix)


def _check_spacing(name: str, header: _Header) -> None:
    spacing = header.spacing[: len(header.size)]
    if not all(length > 0 for length in spacing):
        message = f"{name}: its voxels would be {_listed(spacing)} mm"
        raise InputError(message, "correct the spacing in the file: it must be positive")
    if header.matrix is None:
        return
    columns = [math.hypot(*header.matrix[axis::4]) for axis in range(len(spacing[:3]))]
    pairs = zip(spacing, columns, strict=False)
    if any(abs(length - column) > _CONTRADICTION * length for length, column in pairs):
        message = (
            f"{name}: gives two voxel sizes, {_listed(spacing)} mm (pixdim) and "
            f"{_listed(columns)} mm (sform)"
        )
        raise InputError(message, "correct the header, or export the scan again")


def _listed(lengths: Sequence[float]) -> str:
    return " x ".join(f"{length:g}" for length in lengths)


def _check_length(path: Path, file: gzip.GzipFile | io.BufferedReader, header: _Header) -> None:
    expected = header.offset + math.prod(header.size) * header.bits_per_voxel // 8
    file.seek(0)
    present = 0
    while chunk := file.read(_CHUNK_BYTES):  # to the end: the checksum is there
        present += len(chunk)
    if present < expected:
        message = f"{path.name}: cut short, {present} of {expected} bytes"
        raise InputError(message, _AGAIN)
