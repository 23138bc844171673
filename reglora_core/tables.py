"""What the command line prints when a job is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reglora_core.adaptation import AdaptResult, OrganResult
    from reglora_core.prediction import PredictResult


def result_table(result: AdaptResult | PredictResult) -> str:
    """Return the table of a result, and where its files are."""
    from reglora_core.prediction import PredictResult

    if isinstance(result, PredictResult):
        return _prediction_table(result)
    width = max(len(organ.name) for organ in result.organs)
    lines = [f"{'organ':{width}}  {'ml':>9}  expected Dice (range)"]
    lines += [
        f"{organ.name:{width}}  {organ.ml:9.1f}  {_expected(organ)}".rstrip()
        for organ in result.organs
    ]
    lines.append("")
    lines += [f"segmentation  {path}" for path in result.segmentations]
    lines += [f"adapter       {result.adapter}", f"report        {result.report}"]
    return "\n".join(lines) + "\n"


def _expected(organ: OrganResult) -> str:
    if organ.expected_dice is None or organ.expected_range is None:
        return "nothing found off the paint"
    low, high = organ.expected_range
    doubt = "  probably wrong: look at it" if organ.is_doubtful else ""
    return f"{organ.expected_dice:.2f} ({low:.2f} - {high:.2f}){doubt}"


def _prediction_table(result: PredictResult) -> str:
    width = max(len(name) for name in result.ml)
    lines = [f"{'organ':{width}}  {'ml':>9}"]
    lines += [f"{name:{width}}  {ml:9.1f}" for name, ml in result.ml.items()]
    lines += ["", f"segmentation  {result.segmentation}"]
    return "\n".join(lines) + "\n"
