"""Paint on a scan, and the agreement of results with its reference off that paint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253

from accuracy.experts import simple_experts
from accuracy.job import Job
from accuracy.methods import EXPERT_NAMES
from accuracy.paint import Paint, paint
from accuracy.scans import Scan
from accuracy.work import painted_path
from reglora_core.agreement import KeptSlices
from reglora_core.evaluation import Evaluation, compare
from reglora_core.output import write_json
from reglora_core.volumes import LabelMap, read_labels, write_segmentation

Entries = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """One scan with its reference, and the paint on it where there is any."""

    image: sitk.Image
    reference: LabelMap
    paint: Paint | None

    @classmethod
    def of(cls, scan: Scan, job: Job) -> Bench:
        image, reference = scan.read()
        own = paint(image, reference, job.axis, job.slices) if job.slices else None
        return cls(image, reference, own)

    @property
    def kept_slices(self) -> KeptSlices:
        """What is scored: the slices that are not painted."""
        if self.paint is not None:
            return self.paint.kept_slices
        return KeptSlices.all_but(0, (), self.reference.shape[0])

    def read(self, file: Path) -> LabelMap:
        """Read a result; a plain label map has the reference's values."""
        is_plain = not file.name.endswith(".seg.nrrd")
        names = {organ.value: organ.name for organ in self.reference.organs}
        return read_labels(file, self.image, names if is_plain else None)

    def evaluation(self, file: Path) -> Evaluation:
        spacing_mm = self.image.GetSpacing()[::-1]
        scores = compare(self.read(file), self.reference, spacing_mm, self.kept_slices)
        return Evaluation(scores, self.kept_slices)

    def score(self, file: Path) -> list[Entries]:
        """Return Dice, HD95, surface Dice and volumes of every organ of a file."""
        organs: list[Entries] = self.evaluation(file).to_dict()["organs"]
        return organs

    def dice_of(self, file: Path) -> list[Entries]:
        return self.dice(self.read(file))

    def dice(self, prediction: LabelMap) -> list[Entries]:
        """Return every organ's Dice alone: much faster than `score`, and the same."""
        places = {organ.name: index for index, organ in enumerate(prediction.organs)}
        organs = []
        for index, organ in enumerate(self.reference.organs):
            expected = self.kept_slices.of(self.reference.mask(index))
            found = np.zeros_like(expected)
            if organ.name in places:
                found = self.kept_slices.of(prediction.mask(places[organ.name]))
            total = int(expected.sum()) + int(found.sum())
            dice = round(2 * int((expected & found).sum()) / total, 4) if total else None
            voxels = int(expected.sum())
            organs.append({"name": organ.name, "dice": dice, "reference_voxels": voxels})
        return organs

    def described_paint(self) -> list[Entries]:
        """Return what the record says of the paint: one entry, or none."""
        if self.paint is None:
            return []
        return [
            {
                "direction": self.paint.direction,
                "axis": self.paint.axis,
                "slices": list(self.paint.slices),
                "slices_of_organs": self.paint.slices_of_organs(),
            }
        ]


def write_paint(job: Job, folder: Path) -> None:
    """Write the paint of a job's scans, and paint.json about it."""
    described = []
    for number, scan in enumerate(job.scans):
        bench = Bench.of(scan, job)
        assert bench.paint is not None
        write_segmentation(painted_path(folder, number), bench.paint.labels, bench.image)
        described += bench.described_paint()
    write_json(folder / "paint.json", described)


def expert_results(bench: Bench, job: Job, painted: Path) -> list[Entries]:
    """Return what the simple experts reach on a job's scan."""
    assert bench.paint is not None
    found = simple_experts(job.scans[0].image, painted, bench.paint.annotated, job.model)
    return [
        {"method": EXPERT_NAMES[name], "organs": bench.dice(label_map)} for name, label_map in found
    ]
