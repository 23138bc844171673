"""What the simple parts of the first result reach alone, without any network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch  # noqa: TID253

from reglora_core.adaptation import read_task
from reglora_core.events import ignore
from reglora_core.fit import ExpertScores
from reglora_core.job import AdaptJob
from reglora_core.models.loading import load_model
from reglora_core.result import label_map_of, painted_over
from reglora_core.volumes import LabelMap


def simple_experts(image: Path, painted: Path, annotated: str, model: str) -> Iterator:
    """Yield name and label map of each expert on one scan."""
    base = load_model(model, torch.device("cpu"))
    job = AdaptJob((image,), (painted,), painted.parent, model, annotated=(annotated,))
    task, label_maps = read_task(job, base, ignore)
    experts = ExpertScores(task, task.paintings)
    for name in ("propagated", "interpolated"):
        yield name, _on_the_image(getattr(experts, name)[0], task, label_maps[0])


def _on_the_image(scores: list[torch.Tensor], task, painted: LabelMap) -> LabelMap:
    painting = task.paintings[0]
    label_map = label_map_of(scores, task.organs, task.groups, painting.scan)
    return painted_over(label_map, painted, painting)
