"""A body of two organs for the tests: small, noisy, and the same whenever it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253

LIVER, SPLEEN = 1, 2
SIZE = 48
NAMES = {LIVER: "liver", SPLEEN: "spleen"}


def ellipsoid(
    center: Sequence[float], radii: Sequence[float], shape: Sequence[int] = (SIZE,) * 3
) -> np.ndarray:
    """Return bool (z, y, x): the voxels inside an ellipsoid."""
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    parts = [((a - c) / r) ** 2 for a, c, r in zip(axes, center, radii, strict=True)]
    return sum(parts) <= 1


def body(seed: int = 0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return HU int16 and labels uint8 (z to superior, y to posterior, x to left)."""
    noise = np.random.default_rng(seed).normal(0, 12, (SIZE,) * 3)
    liver = ellipsoid((25 + shift, 20, 16), (15, 9, 8))
    spleen = ellipsoid((26 - shift, 29, 33), (11, 7, 6))
    hounsfield = np.full((SIZE,) * 3, -1000.0)
    hounsfield[ellipsoid((24, 24, 24), (40, 20, 22))] = 20
    hounsfield[liver], hounsfield[spleen] = 130, -80
    labels = np.zeros((SIZE,) * 3, np.uint8)
    labels[liver], labels[spleen] = LIVER, SPLEEN
    return (hounsfield + noise).astype(np.int16), labels


def on_slices(labels: np.ndarray, slices: Sequence[int], axis: int = 0) -> np.ndarray:
    """Return the labels on some slices only."""
    kept = np.zeros_like(labels)
    index = [slice(None)] * 3
    index[axis] = list(slices)
    kept[tuple(index)] = labels[tuple(index)]
    return kept


def image_of(
    array: np.ndarray,
    spacing: Sequence[float] = (3.0, 3.0, 3.0),
    origin: Sequence[float] = (-70.0, -60.0, 10.0),
    direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
) -> sitk.Image:
    """Return an image of an array (z, y, x); spacing, origin, direction are in x, y, z."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing([float(mm) for mm in spacing])
    image.SetOrigin([float(mm) for mm in origin])
    image.SetDirection([float(cosine) for cosine in direction])
    return image


def write(path: Path, image: sitk.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)
    return path


def write_case(
    folder: Path, slices: Sequence[int] = (14, 21, 28, 35), axis: int = 0, seed: int = 0
) -> tuple[Path, Path]:
    """Write the body and its labels on some slices; return the paths of both."""
    hounsfield, labels = body(seed)
    image = write(folder / "ct.nrrd", image_of(hounsfield))
    return image, write(folder / "painted.nrrd", image_of(on_slices(labels, slices, axis)))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice of two masks, by its definition."""
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))
