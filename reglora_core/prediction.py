"""Segment a scan by an adapter, with nothing painted: the work behind `reglora predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np  # noqa: TID253
import torch  # noqa: TID253

from reglora_core.adapter import Adapter, load_adapter
from reglora_core.device import choose_device
from reglora_core.events import Report, ignore
from reglora_core.forecast import Setting
from reglora_core.islands import only_largest_
from reglora_core.job import PredictJob
from reglora_core.known_classes import mixed
from reglora_core.memory import prepare, with_enough_memory
from reglora_core.methods.trained import merge_trained
from reglora_core.models.base import BaseModel, in_precision
from reglora_core.models.loading import load_model
from reglora_core.models.slices import axis_of
from reglora_core.output import refuse_to_overwrite
from reglora_core.result import label_map_of
from reglora_core.scan import Scan, prepare_scan
from reglora_core.scores import head_scores, split_groups
from reglora_core.volumes import LabelMap, read_image, write_segmentation


@dataclass(frozen=True)
class PredictResult:
    """A written segmentation; `ml` per organ name."""

    segmentation: Path
    ml: dict[str, float]

    @property
    def files(self) -> dict[str, str]:
        return {"segmentation": str(self.segmentation)}


def predict(job: PredictJob, report: Report = ignore) -> PredictResult:
    """Segment the adapter's organs in an image and write the segmentation.

    Raises:
        InputError: the image, the adapter or its base network cannot be used.
        OutputError: the file cannot be written.
        ResourceError: memory does not suffice even for the smallest windows.
    """
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    refuse_to_overwrite(job.out, (job.image, job.adapter))
    adapter = load_adapter(job.adapter)
    image = read_image(job.image)
    report("progress", stage="read", step=1, steps=1)
    plain = load_model(job.model or adapter.base, choose_device(job.device))
    model = in_precision(plain, job.precision)
    adapter.check_base(model)
    model = model.cut_along(axis_of(adapter.slice_axis))
    scan = prepare_scan(job.image, image, model.entry.spacing_mm)
    setting = Setting(
        "predict", organs=len(adapter.organs), has_classes=bool(adapter.known_classes)
    )
    model = prepare(model, [scan], setting, report)
    label_map = segment(adapter, model, scan, report)
    report("progress", stage="write", step=1, steps=1)
    write_segmentation(job.out, label_map, image)
    voxel_ml = float(np.prod(image.GetSpacing())) / 1000
    ml = {}
    for index, organ in enumerate(label_map.organs):
        ml[organ.name] = round(int(label_map.mask(index).sum()) * voxel_ml, 2)
        report("organ", name=organ.name, held_out_dice=None, ml=ml[organ.name])
    return PredictResult(job.out, ml)


def segment(adapter: Adapter, model: BaseModel, scan: Scan, report: Report = ignore) -> LabelMap:
    """Return the adapter's organs in a scan.

    Args:
        adapter: what was learned.
        model: its base network, plain; holds the adapter's update for good afterwards.
        scan: the scan.
        report: told of smaller windows.

    Raises:
        AdapterError: the adapter does not fit the base network.
        ResourceError: memory does not suffice even for the smallest windows.
    """
    known = adapter.build_known_head(model)
    by_classes: torch.Tensor | None = None
    if known is not None:  # before the update changes the features that the classes read
        by_classes, model = with_enough_memory(
            lambda plain: head_scores(plain, [known], scan, report), model, report
        )
    adapter.attach_to(model)
    merge_trained(model.network)
    heads = adapter.build_heads(model)

    def work(with_model: BaseModel) -> LabelMap:
        scores = head_scores(with_model, heads, scan, report)
        if by_classes is not None:
            scores = mixed(scores, by_classes, adapter.groups, adapter.known_organs)
        groups = split_groups(scores, adapter.groups)
        for group, scores in zip(adapter.groups, groups, strict=True):
            whole = (adapter.organs[index].name in adapter.in_one_piece for index in group)
            only_largest_(scores, [place for place, is_whole in enumerate(whole, 1) if is_whole])
        groups = [group.to(with_model.device) for group in groups]
        return label_map_of(groups, adapter.organs, adapter.groups, scan)

    return with_enough_memory(work, model, report)[0]
