"""Adaptation from painted slices to written files, on a small body."""

from __future__ import annotations

from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
from phantom import LIVER, SPLEEN

from reglora_core.adapt import AdaptResult, adapt
from reglora_core.job import AdaptJob
from reglora_core.volumes import read_image, read_labels

pytestmark = pytest.mark.usefixtures("quick_fits")

SLICES = (14, 21, 28, 35)
HIDDEN = [index for index in range(phantom.SIZE) if index not in SLICES]


class Events:
    """A report that remembers."""

    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []

    def __call__(self, event: str, /, **fields: object) -> None:
        self.seen.append({"event": event, **fields})

    def named(self, name: str) -> list[dict[str, object]]:
        return [entry for entry in self.seen if entry["event"] == name]

    @property
    def warnings(self) -> str:
        return " | ".join(str(entry["message"]) for entry in self.named("warning"))


@pytest.fixture
def a_job(tmp_path: Path, small_weights: Path) -> AdaptJob:
    image, labels = phantom.write_case(tmp_path / "case", SLICES)
    return AdaptJob(
        (image,),
        (labels,),
        tmp_path / "out",
        model=str(small_weights),
        steps=4,
        names=phantom.NAMES,
    )


def segmented(result: AdaptResult, image: Path, number: int = 0) -> np.ndarray:
    """Return the written label values (z, y, x) of organs that do not overlap."""
    labels = read_labels(result.segmentations[number], read_image(image))
    return labels.with_layers_merged().layers[0]


def test_four_painted_slices_of_a_body_give_its_organs(a_job: AdaptJob) -> None:
    events = Events()
    result = adapt(a_job, events)
    found, (_, truth) = segmented(result, a_job.images[0]), phantom.body()
    for value in (LIVER, SPLEEN):
        assert phantom.dice(found[HIDDEN] == value, truth[HIDDEN] == value) > 0.85
    assert np.array_equal(found[list(SLICES)], truth[list(SLICES)])
    by_name = {organ.name: organ for organ in result.organs}
    assert by_name["liver"].value == LIVER
    assert by_name["liver"].voxels == np.count_nonzero(found == LIVER)
    assert by_name["liver"].ml == pytest.approx(by_name["liver"].voxels * 0.027, abs=0.01)
    assert [entry["name"] for entry in events.named("organ")] == ["liver", "spleen"]
    assert events.named("preview")[0]["file"] == str(result.segmentations[0])
    assert len(events.named("ranks")) > 0
