"""Files of a job's result, looked at before anything else reads them.

Slicer's NRRD reader aborts the whole process on some damaged files, so that a result is checked for
being whole first.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

_HEADER_LIMIT = 2**22
_BYTES = {
    "char": 1,
    "uchar": 1,
    "int8": 1,
    "uint8": 1,
    "unsigned char": 1,
    "short": 2,
    "ushort": 2,
    "int16": 2,
    "uint16": 2,
    "unsigned short": 2,
}


def isWholeNrrd(path: Path) -> bool:
    """Tell whether a label file in NRRD format has a full header and all its voxels."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(_HEADER_LIMIT)
            header, separator, _ = start.partition(b"\n\n")
            file.seek(0, 2)
            dataBytes = file.tell() - len(header) - len(separator)
            file.seek(-min(4, file.tell()), 2)
            ending = file.read(4)
    except OSError:
        return False
    fields = _fields(header)
    if not separator or not header.startswith(b"NRRD000") or "data file" in fields:
        return False
    expected = _expectedBytes(fields)
    if expected <= 0:
        return False
    if fields.get("encoding") in ("gzip", "gz"):
        return len(ending) == 4 and struct.unpack("<I", ending)[0] == expected % 2**32
    return 0 < expected <= dataBytes


def readReport(folder: Path) -> dict[str, Any]:
    """Return the job's report; empty if there is none that can be read."""
    try:
        report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def _fields(header: bytes) -> dict[str, str]:
    fields = {}
    for line in header.decode("utf-8", "replace").replace("\r", "").split("\n")[1:]:
        name, separator, value = line.partition(": ")
        if separator and not line.startswith("#"):
            fields[name.strip().lower()] = value.strip().lower()
    return fields


def _expectedBytes(fields: dict[str, str]) -> int:
    try:
        sizes = [int(size) for size in fields["sizes"].split()]
        axes = fields["space directions"].split()
        needed = _BYTES[fields["type"]] * math.prod(sizes)
    except (KeyError, ValueError):
        return -1
    isVolume = len(sizes) == len(axes) and "space origin" in fields
    return needed if isVolume and 0 not in sizes else -1
