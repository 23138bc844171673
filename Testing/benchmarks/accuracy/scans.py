"""The labelled scans of the benchmark, found without being read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import SimpleITK as sitk

    from reglora_core.volumes import LabelMap

SAMPLE, TORSO, HEAD_AND_NECK, MR = "sample CT", "torso CT", "head and neck CT", "abdominal MR"
KINDS = (SAMPLE, TORSO, HEAD_AND_NECK, MR)
MIN_SLICES = 10  # axial slices that an organ of the MR must be seen on: it has only twenty
MIN_VOXELS = 300


@dataclass(frozen=True)
class Scan:
    """A scan with a reference.

    Attributes:
        name: short, and unique.
        kind: one of KINDS; the tables group by it.
        image, labels: their files.
        names: file of the organs' names.
        is_seen: whether the embedded base network was trained on it.
    """

    name: str
    kind: str
    image: Path
    labels: Path
    names: Path
    is_seen: bool = False

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Scan:
        paths = {key: Path(entries[key]) for key in ("image", "labels", "names")}
        return replace(cls(**entries), **paths)

    def read(self) -> tuple[sitk.Image, LabelMap]:
        """Return the image, and the organs that count on its grid."""
        from reglora_core.sample import ORGANS, read_sample
        from reglora_core.volumes import read_image, read_labels

        if self.kind == SAMPLE:
            sample = read_sample(self.image.parent)
            return sample.image, sample.reference
        image = read_image(self.image)
        names = json.loads(self.names.read_text(encoding="utf-8"))
        everything = read_labels(self.labels, image, {int(v): name for v, name in names.items()})
        if self.kind == TORSO:
            return image, only(everything, ORGANS)
        if self.kind == MR:
            return image, only(everything, organs_on_enough_slices(everything))
        return image, only(everything, [organ.name for organ in everything.organs])


def only(labels: LabelMap, names: Any) -> LabelMap:
    """Return those of the organs that have any voxel."""
    from reglora_core.volumes import LabelMap

    kept = [
        (organ, mask)
        for index, organ in enumerate(labels.organs)
        if organ.name in names and (mask := labels.mask(index)).any()
    ]
    return LabelMap.from_masks([organ for organ, _ in kept], [mask for _, mask in kept])


def organs_on_enough_slices(labels: LabelMap) -> list[str]:
    """Return the organs that are large enough, and on enough axial slices, to be painted."""
    names = []
    for index, organ in enumerate(labels.organs):
        mask = labels.mask(index)
        if mask.any(axis=(1, 2)).sum() >= MIN_SLICES and mask.sum() >= MIN_VOXELS:
            names.append(organ.name)
    return names


def sample_scan(folder: Path) -> Scan:
    files = (folder / name for name in ("cxr.nii.gz", "mask.nii.gz", "structures.csv"))
    return Scan("sample", SAMPLE, *files)


def torso_scan(data: Path) -> Scan:
    folder = data / "ct_abdomen_3mm"
    files = (folder / name for name in ("ct.nii.gz", "labels.nii.gz", "labels.json"))
    return Scan("torso", TORSO, *files)


def mr_scan(data: Path) -> Scan:
    folder = data / "mr_abdomen_3mm"
    files = (folder / name for name in ("mr.nii.gz", "labels.nii.gz", "labels.json"))
    return Scan("mr", MR, *files, is_seen=True)


def validation_patients(data: Path, count: int) -> list[Scan]:
    """Return the first OpenKBP validation patients, in the order of their numbers."""
    folder = data / "openkbp" / "validation"
    images = sorted(folder.glob("pt_*_ct.nii.gz"), key=_number)
    names = data / "openkbp" / "labels.json"
    return [
        Scan(
            f"pt_{_number(image)}",
            HEAD_AND_NECK,
            image,
            image.with_name(image.name.replace("_ct", "_labels")),
            names,
        )
        for image in images[:count]
    ]


def _number(path: Path) -> int:
    return int(re.findall(r"\d+", path.name)[0])
