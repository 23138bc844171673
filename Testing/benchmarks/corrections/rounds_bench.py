"""One scan: a full adaptation, then correction rounds by the command line, as a user has them."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253

from accuracy.paint import Paint, array_axis, on_slices, paint
from accuracy.scans import Scan
from bench_core import Measured, measure
from reglora_core.agreement import KeptSlices
from reglora_core.volumes import LabelMap, read_labels, write_segmentation

FAR_MM = 30.0
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A scan with its reference, in a folder of its own."""

    scan: Scan
    image: Any
    reference: LabelMap
    folder: Path
    options: argparse.Namespace

    @property
    def axis(self) -> int:
        return array_axis(self.image, "axial")

    def adapt(self, slices: tuple[int, ...], out: Path, *more: str | Path) -> Measured:
        """Paint the reference on the slices and run `reglora adapt` in a process of its own."""
        painted = self.folder / f"{out.name}.painted.seg.nrrd"
        write_segmentation(painted, on_slices(self.reference, self.axis, slices), self.image)
        command = [sys.executable, "-m", "reglora_core", "adapt", "--events"]
        command += ["--image", str(self.scan.image), "--labels", str(painted)]
        command += ["--annotated", f"axial:{','.join(map(str, slices))}", "--out", str(out)]
        command += ["--model", self.options.model, "--threads", str(self.options.threads)]
        return measure([*command, *more])

    def dice(self, out: Path, is_scored: np.ndarray) -> float | None:
        """Return the mean Dice of the organs on some axial slices; a missing organ counts 0."""
        found = read_labels(out / "segmentation_1.seg.nrrd", self.image)
        names = [organ.name for organ in found.organs]
        kept = KeptSlices(self.axis, is_scored)
        values = []
        for index, organ in enumerate(self.reference.organs):
            true = kept.of(self.reference.mask(index))
            if not true.any():
                continue
            own = np.zeros_like(true)
            if organ.name in names:
                own = kept.of(found.mask(names.index(organ.name)))
            values.append(2 * np.count_nonzero(own & true) / (own.sum() + true.sum()))
        return round(float(np.mean(values)), 4) if values else None

    def off(self, slices: tuple[int, ...]) -> np.ndarray:
        return KeptSlices.all_but(self.axis, slices, self.reference.shape[self.axis]).is_kept

    def far_from(self, new: int, slices: tuple[int, ...]) -> np.ndarray:
        mm = self.image.GetSpacing()[2 - self.axis]
        distance = np.abs(np.arange(self.reference.shape[self.axis]) - new) * mm
        return self.off(slices) & (distance > FAR_MM)

    def has_exact_paint(self, out: Path, slices: tuple[int, ...]) -> bool:
        """Tell whether a result is the reference on the painted slices, voxel by voxel."""
        found = read_labels(out / "segmentation_1.seg.nrrd", self.image)
        drawn = on_slices(self.reference, self.axis, slices)
        painted = KeptSlices(self.axis, ~self.off(slices))
        names = [organ.name for organ in found.organs]
        return all(
            np.array_equal(
                painted.of(drawn.mask(index)), painted.of(found.mask(names.index(organ.name)))
            )
            for index, organ in enumerate(drawn.organs)
        )


def play_rounds(scan: Scan, folder: Path, options: argparse.Namespace) -> list[Row]:
    """Return one row per round; round 0 is the full adaptation."""
    folder.mkdir(parents=True, exist_ok=True)
    image, reference = scan.read()
    case = Case(scan, image, reference, folder, options)
    first: Paint = paint(image, reference, "axial", options.start)
    slices, out = first.slices, folder / "round_0"
    steps = ["--steps", str(options.steps)]
    measured = case.adapt(slices, out, *steps)
    rows = [_row(case, 0, slices, out, measured)]
    for number in range(1, options.rounds + 1):
        suggested = _reported(out)["next_slice"]
        if suggested is None:
            break
        before, new = out, suggested["index"]
        slices, out = tuple(sorted({*slices, new})), folder / f"round_{number}"
        earlier = before / "adapter.safetensors"
        measured = case.adapt(slices, out, "--from-adapter", earlier, "--correct")
        row = _row(case, number, slices, out, measured)
        off, far = case.off(slices), case.far_from(new, slices)
        row.update(new=new, before=case.dice(before, off))
        row.update(far_before=case.dice(before, far), far_after=case.dice(out, far))
        if options.anew:
            anew = folder / f"anew_{number}"
            row["anew_seconds"] = round(case.adapt(slices, anew, *steps).seconds, 1)
            row["anew"] = case.dice(anew, off)
        rows.append(row)
    return rows


def _row(case: Case, number: int, slices: tuple[int, ...], out: Path, measured: Measured) -> Row:
    return {
        "case": case.scan.name,
        "round": number,
        "path": _reported(out)["path"],
        "painted": len(slices),
        "new": "",
        "before": "",
        "after": case.dice(out, case.off(slices)),
        "far_before": "",
        "far_after": "",
        "is_paint_exact": case.has_exact_paint(out, slices),
        "seconds": round(measured.seconds, 1),
        "peak_mb": round(measured.peak_mb),
        "anew": "",
        "anew_seconds": "",
    }


def _reported(out: Path) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return entries
