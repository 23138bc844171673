"""Heads and experts on one painted scan within this process, part by part."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch  # noqa: TID253

from accuracy.paint import paint
from accuracy.scans import Scan
from accuracy.scoring import Bench
from reglora_core.annotation import annotation_of
from reglora_core.events import ignore
from reglora_core.fit import ExpertScores, Fitted, Task, fit_heads, probabilities
from reglora_core.head import Head
from reglora_core.job import Annotated
from reglora_core.models.base import BaseModel
from reglora_core.result import label_map_of, painted_over
from reglora_core.samples import Painting
from reglora_core.scan import prepare_scan


@dataclass(frozen=True)
class PaintedScan:
    """A scan's reference on a few slices, as a task; the rest of it is what is scored."""

    task: Task
    bench: Bench

    @classmethod
    def of(cls, scan: Scan, axis: str, count: int, spacing_mm: float) -> PaintedScan:
        """Paint `count` evenly spaced slices."""
        image, reference = scan.read()
        own = paint(image, reference, axis, count)
        prepared = prepare_scan(scan.image, image, spacing_mm)
        where = Annotated.parse(own.annotated)
        annotation = annotation_of(own.labels, prepared.orientation, where, {})
        organs = tuple(sorted(own.labels.organs, key=lambda organ: organ.value))
        names = [organ.name for organ in organs]
        organ_of = tuple(names.index(organ.name) for organ in own.labels.organs)
        painting = Painting(prepared, annotation, organ_of)
        task = Task(organs, (tuple(range(len(organs))),), (painting,))
        return cls(task, Bench(image, reference, own))

    @property
    def painting(self) -> Painting:
        return self.task.paintings[0]

    @cached_property
    def experts(self) -> ExpertScores:
        return ExpertScores(self.task, self.task.paintings)

    def mean_dice(self, scores: Sequence[torch.Tensor]) -> float:
        """Return the mean over the painted organs."""
        return statistics.mean(self.dice(scores).values())

    def dice(self, scores: Sequence[torch.Tensor]) -> dict[str, float]:
        """Return the Dice of the painted organs off the paint, on the image's own grid."""
        organs = self.task.organs
        found = label_map_of(scores, organs, self.task.groups, self.painting.scan)
        assert self.bench.paint is not None
        found = painted_over(found, self.bench.paint.labels, self.painting)
        names = {organ.name for organ in organs}
        return {
            own["name"]: own["dice"]
            for own in self.bench.dice(found)
            if own["name"] in names and own["reference_voxels"]
        }


@dataclass(frozen=True)
class Episode:
    """Heads on a painted scan, their probabilities, and the seconds that one pass took."""

    heads: list[Head]
    by_heads: list[torch.Tensor]
    by_single_head: list[torch.Tensor]
    pass_seconds: float  # of processor time, network and heads over the scan

    @classmethod
    def of(cls, model: BaseModel, painted: PaintedScan, seed: int = 0) -> Episode:
        """Fit both heads."""
        generator = torch.Generator().manual_seed(seed)
        paintings = list(painted.task.paintings)
        heads = fit_heads(model, painted.task, paintings, generator, ignore)
        start = time.process_time()
        both = probabilities(model, heads, paintings)
        seconds = time.process_time() - start
        return cls(heads, both, probabilities(model, heads[:1], paintings), seconds)

    def fitted(self, painted: PaintedScan) -> Fitted:
        """Return the first result."""
        scores = painted.experts.fused(self.by_heads, painted.task.groups)
        return Fitted(self.heads, painted.experts, self.by_heads, scores)
