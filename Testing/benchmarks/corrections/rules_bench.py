"""One scan, one rule: rounds of painting in memory, on the working grid, without updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np  # noqa: TID253
import torch  # noqa: TID253

from accuracy.paint import array_axis
from accuracy.scans import Scan
from corrections.rules import RULES, Seen
from reglora_core.annotation import annotation_of
from reglora_core.correction import CORRECTION
from reglora_core.events import ignore
from reglora_core.features import remembering
from reglora_core.fit import ExpertScores, Task, WarmHeads, fit_heads, probabilities
from reglora_core.head import Head
from reglora_core.job import Annotated
from reglora_core.models.base import BaseModel
from reglora_core.models.loading import load_model
from reglora_core.sample import evenly_spaced
from reglora_core.samples import Painting
from reglora_core.scan import prepare_scan
from reglora_core.scores import split_groups

FAR_MM = 30.0
# rules are compared, not heads: few steps, and one head of the two
QUICK = replace(CORRECTION, steps=30, voxels=1024)
Row = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One round: the slices painted, the heads fitted, the labels found on the working grid."""

    slices: tuple[int, ...]
    heads: list[Head]
    seen: Seen
    labels: torch.Tensor


class Rounds:
    """Paints a scan slice by slice, and corrects by heads and experts alone.

    Args:
        scan: a labelled scan.
        model: name or file of the base network.
    """

    def __init__(self, scan: Scan, model: str) -> None:
        self.image, reference = scan.read()
        self.reference = reference.with_layers_merged()
        self.model: BaseModel = remembering(load_model(model, torch.device("cpu")))
        self.scan = prepare_scan(scan.image, self.image, self.model.entry.spacing_mm)
        self.name = scan.name

    @cached_property
    def truth(self) -> torch.Tensor:
        """The reference, organ index + 1, within the body's box of the working grid."""
        native = np.zeros(self.reference.shape, np.int64)
        for index in range(len(self.reference.organs)):
            native[self.reference.mask(index)] = index + 1
        canonical = np.ascontiguousarray(self.scan.orientation.canonical(native))
        return self.scan.grid.nearest_to_working(torch.from_numpy(canonical))[self.scan.body]

    def first_slices(self, count: int) -> tuple[int, ...]:
        axis = array_axis(self.image, "axial")
        painted = np.moveaxis(self.reference.painted(), axis, 0)
        chosen = evenly_spaced(painted, count)
        number = painted.shape[0]
        is_flipped = self.scan.orientation.is_flipped[0]
        return tuple(sorted({number - 1 - k if is_flipped else k for k in chosen}))

    def task(self, slices: tuple[int, ...]) -> Task:
        """Return the reference painted on canonical axial slices."""
        count = self.scan.grid.shape[0]
        is_flipped = self.scan.orientation.is_flipped[0]
        native = [count - 1 - k if is_flipped else k for k in slices]
        text = f"axial:{','.join(map(str, sorted(native)))}"
        annotation = annotation_of(self.reference, self.scan.orientation, Annotated.parse(text))
        organs = range(len(self.reference.organs))
        painting = Painting(self.scan, annotation, tuple(organs))
        return Task(self.reference.organs, (tuple(organs),), (painting,))

    def round(self, slices: tuple[int, ...], number: int, heads: list[Head]) -> Result:
        """Fit heads to the paint, from those of the round before where there are any."""
        task, generator = self.task(slices), torch.Generator().manual_seed(number)
        start = WarmHeads(heads, QUICK) if heads else None
        fitted = fit_heads(self.model, task, task.paintings, generator, ignore, start)
        experts = ExpertScores(task, task.paintings)
        own = probabilities(self.model, fitted[-1:], task.paintings)
        fused = experts.fused([part.clone() for part in own], task.groups)[0][0]
        paint = experts.paints[0][0]
        heads_scores = split_groups(own[0], task.groups)[0]
        seen = Seen(paint, fused, heads_scores, experts.propagated[0][0], self._open(slices))
        labels = fused.argmax(0)
        seeds = paint.seeds()
        return Result(slices, fitted, seen, torch.where(seeds >= 0, seeds, labels))

    def _open(self, slices: tuple[int, ...]) -> torch.Tensor:
        """Return which planes of the box are not the nearest one of a painted slice."""
        is_open = torch.ones(self.truth.shape[0], dtype=torch.bool)
        for index in slices:
            plane = self.plane_of(index)
            if 0 <= plane < len(is_open):
                is_open[plane] = False
        return is_open

    def plane_of(self, index: int) -> int:
        """Return the plane of the box nearest to a canonical slice."""
        grid = self.scan.grid
        scale = grid.working_shape[0] / grid.shape[0]
        return int((index + 0.5) * scale) - self.scan.body[0].start

    def slice_at(self, plane: int) -> int:
        """Return the canonical slice nearest to a plane of the box."""
        return int(self.scan.grid.nearest_native(0)[plane + self.scan.body[0].start])

    def dice(self, labels: torch.Tensor, planes: torch.Tensor) -> float:
        """Return the organs' mean Dice on some planes; those that the planes lack do not count."""
        found, truth = labels[planes], self.truth[planes]
        values = []
        for label in range(1, len(self.reference.organs) + 1):
            own, true = found == label, truth == label
            if bool(true.any()):
                values.append(float(2 * (own & true).sum() / (own.sum() + true.sum())))
        return sum(values) / len(values) if values else float("nan")


def play(rounds: Rounds, rule: str, first: Result, count: int) -> list[Row]:
    """Return one row per round by a rule; round 0 is what all rules start from."""
    choose: Callable[[Seen], int | None] = RULES[rule]
    everywhere = torch.ones(len(first.seen.is_open), dtype=torch.bool)
    rows, before = [], first
    for number in range(count + 1):
        new = None
        now = before
        if number:
            plane = choose(before.seen)
            if plane is None:
                break
            new = rounds.slice_at(plane)
            now = rounds.round(tuple(sorted({*before.slices, new})), number, before.heads)
        off = now.seen.is_open
        far = off.clone()
        if new is not None:
            planes = torch.arange(len(off))
            far &= (planes - rounds.plane_of(new)).abs() * now.seen.spacing > FAR_MM
        rows.append(
            {
                "case": rounds.name,
                "rule": rule,
                "round": number,
                "painted": len(now.slices),
                "new": "" if new is None else new,
                "whole": round(rounds.dice(now.labels, everywhere), 4),
                "off": round(rounds.dice(now.labels, off), 4),
                "far_before": round(rounds.dice(before.labels, far), 4),
                "far": round(rounds.dice(now.labels, far), 4),
            }
        )
        before = now
    return rows


def compare_rules(scan: Scan, model: str, start: int, count: int, rules: list[str]) -> list[Row]:
    """Return the rows of all rules on one scan."""
    rounds = Rounds(scan, model)
    first = rounds.round(rounds.first_slices(start), 0, [])
    return [row for rule in rules for row in play(rounds, rule, first, count)]
