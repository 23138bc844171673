"""RegLoRASegment's library: few-slice organ segmentation with adaptive-rank LoRA.

    import reglora_core as reglora

    result = reglora.adapt("ct.nrrd", "painted.seg.nrrd", out="result")
    reglora.predict(result.adapter, "next_patient.nrrd", out="next_patient.seg.nrrd")
    print(reglora.evaluate("next_patient.seg.nrrd", "reference.nii.gz").to_table())

The verbs are those of the command line; `report` receives the events of `reglora_core.events`.
Importing the package imports nothing beyond the standard library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reglora_core.events import Report, ignore

if TYPE_CHECKING:
    from reglora_core.adaptation import AdaptResult
    from reglora_core.adapter import Adapter
    from reglora_core.evaluation import Evaluation
    from reglora_core.prediction import PredictResult

__version__ = "0.1.0"
__all__ = ["adapt", "evaluate", "load_adapter", "predict"]

PathLike = str | Path


def _paths(given: PathLike | Sequence[PathLike]) -> tuple[Path, ...]:
    return (Path(given),) if isinstance(given, str | Path) else tuple(Path(one) for one in given)


def adapt(
    images: PathLike | Sequence[PathLike],
    labels: PathLike | Sequence[PathLike],
    out: PathLike,
    report: Report = ignore,
    **options: Any,
) -> AdaptResult:
    """Adapt a base network to the slices painted in `labels`; write adapter and segmentations.

    Args:
        images: one image file or several (or DICOM folders).
        labels: as many label files, on the images' grids or others.
        out: folder for what is written.
        report: receives events; may raise `errors.Cancelled` to stop.
        options: the other fields of `reglora_core.job.AdaptJob` (model, method, rank, annotated,
            budget, steps, seed, ...); `annotated` may be one text for all images.

    Raises:
        InputError: something given cannot be used; the message says what and why.
    """
    from reglora_core.adaptation import adapt as work
    from reglora_core.job import AdaptJob

    if isinstance(options.get("annotated"), str):
        options["annotated"] = (options["annotated"],)
    return work(AdaptJob(_paths(images), _paths(labels), Path(out), **options), report)


def predict(
    adapter: PathLike, image: PathLike, out: PathLike, report: Report = ignore, **options: Any
) -> PredictResult:
    """Segment an image by an adapter file; write the segmentation `out`."""
    from reglora_core.job import PredictJob
    from reglora_core.prediction import predict as work

    return work(PredictJob(Path(adapter), Path(image), Path(out), **options), report)


def evaluate(
    prediction: PathLike, reference: PathLike, slices_not_in: PathLike | None = None
) -> Evaluation:
    """Compare a segmentation file with a reference, organ by organ."""
    from reglora_core.evaluation import evaluate as work

    left_out = None if slices_not_in is None else Path(slices_not_in)
    return work(Path(prediction), Path(reference), left_out)


def load_adapter(path: PathLike) -> Adapter:
    """Read an adapter file: its description, and its tensors. Never executes code."""
    from reglora_core.adapter import load_adapter as work

    return work(Path(path))
