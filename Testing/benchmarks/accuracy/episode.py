"""Heads and experts on one painted scan within this process: what a base network is worth."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch  # noqa: TID253

from accuracy.paint import paint
from accuracy.scans import Scan
from reglora_core.annotation import annotation_of
from reglora_core.events import ignore
from reglora_core.fit import ExpertScores, Task, fit_heads, probabilities
from reglora_core.job import Annotated
from reglora_core.models.base import BaseModel
from reglora_core.result import label_map_of, painted_over
from reglora_core.samples import Painting
from reglora_core.scan import prepare_scan


@dataclass(frozen=True)
class Episode:
    """Mean Dice of the organs that were painted, off the paint, on the image's own grid."""

    heads: float
    fused: float
    pass_seconds: float  # processor time of one pass of network and heads over the scan


def run_episode(model: BaseModel, scan: Scan, axis: str, count: int, seed: int = 0) -> Episode:
    """Paint `count` evenly spaced slices of a scan's reference and fit heads to them."""
    image, reference = scan.read()
    own = paint(image, reference, axis, count)
    prepared = prepare_scan(scan.image, image, model.entry.spacing_mm)
    annotation = annotation_of(own.labels, prepared.orientation, Annotated.parse(own.annotated), {})
    organs = tuple(sorted(own.labels.organs, key=lambda organ: organ.value))
    names = [organ.name for organ in organs]
    organ_of = tuple(names.index(organ.name) for organ in own.labels.organs)
    painting = Painting(prepared, annotation, organ_of)
    task = Task(organs, (tuple(range(len(organs))),), (painting,))
    generator = torch.Generator().manual_seed(seed)
    heads = fit_heads(model, task, [painting], generator, ignore)
    start = time.process_time()
    by_heads = probabilities(model, heads, [painting])
    seconds = time.process_time() - start
    fused = ExpertScores(task, [painting]).fused(by_heads, task.groups)[0]

    def mean_dice(scores: Sequence[torch.Tensor]) -> float:
        found = label_map_of(scores, organs, task.groups, prepared)
        found = painted_over(found, own.labels, painting)
        places = {organ.name: index for index, organ in enumerate(found.organs)}
        values = []
        for index, organ in enumerate(reference.organs):
            if organ.name not in places:
                continue
            truth = own.kept_slices.of(reference.mask(index))
            guess = own.kept_slices.of(found.mask(places[organ.name]))
            if truth.any():
                total = int(truth.sum()) + int(guess.sum())
                values.append(2 * int((truth & guess).sum()) / total)
        return statistics.mean(values)

    return Episode(mean_dice([by_heads[0]]), mean_dice(fused), seconds)
