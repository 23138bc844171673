"""Samples: drawn voxels lie where their organ is, on the working grid and in the body's box."""

from __future__ import annotations

from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253

from reglora_core.annotation import annotation_of
from reglora_core.job import Annotated
from reglora_core.models.base import BaseModel
from reglora_core.organs import organ
from reglora_core.samples import Painting, Voxels, draw_voxels, samples_of
from reglora_core.scan import prepare_scan
from reglora_core.volumes import LabelMap

ORGANS = (organ(1, "liver"), organ(2, "spleen"))
ONE_GROUP = ((0, 1),)


def painting_of(
    image: sitk.Image,
    layers: tuple[np.ndarray, ...],
    annotated: str = "auto",
    ignored: np.ndarray | None = None,
    not_painted: dict[str, list[int]] | None = None,
) -> Painting:
    scan = prepare_scan(Path("ct.nrrd"), image, 3.0)
    layer_of = (0, len(layers) - 1)
    labels = LabelMap(ORGANS, tuple(layer.astype(np.uint16) for layer in layers), layer_of, ignored)
    annotation = annotation_of(labels, scan.orientation, Annotated.parse(annotated), not_painted)
    return Painting(scan, annotation, (0, 1))


def draw(
    painting: Painting, count: int = 4000, is_balanced: bool = False, organs: int = 2
) -> Voxels:
    generator = torch.Generator().manual_seed(0)
    return draw_voxels(painting, ONE_GROUP, organs, count, is_balanced, generator)


def labels_at(painting: Painting, labels: np.ndarray, points: torch.Tensor) -> np.ndarray:
    """Return the canonical labels (z, y, x) at points of the body's box."""
    grid, low = painting.scan.grid, [part.start for part in painting.scan.body]
    ratio = np.array(grid.shape) / np.array(grid.working_shape)
    z, y, x = np.floor((points.numpy() + low) * ratio).astype(int).T
    return labels[z, y, x]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (1.0, 1.5, 5.0)])
def test_points_lie_in_their_organ(axis: int, spacing: tuple[float, ...]) -> None:
    hounsfield, labels = phantom.body()
    sparse = phantom.on_slices(labels, (18, 29), axis)
    painting = painting_of(phantom.image_of(hounsfield, spacing), (sparse,))
    voxels = draw(painting)
    found = labels_at(painting, labels, voxels.points)
    assert set(found.tolist()) == {0, 1, 2}
    assert np.array_equal(found, voxels.targets[:, 0].numpy())


def test_points_lie_in_their_organ_in_a_file_stored_upside_down() -> None:
    hounsfield, labels = phantom.body()
    sparse = phantom.on_slices(labels, (18, 29))
    upside_down = phantom.image_of(hounsfield[::-1], direction=(1, 0, 0, 0, 1, 0, 0, 0, -1))
    painting = painting_of(upside_down, (sparse[::-1],))
    voxels = draw(painting)
    assert np.array_equal(labels_at(painting, labels, voxels.points), voxels.targets[:, 0].numpy())


def test_only_annotated_slices_are_drawn_from() -> None:
    hounsfield, labels = phantom.body()
    painting = painting_of(phantom.image_of(hounsfield), (phantom.on_slices(labels, (18, 29)),))
    planes = draw(painting).points[:, 0] + painting.scan.body[0].start
    assert set(planes.tolist()) == {18.5, 29.5}


def test_balanced_drawing_follows_the_root_of_the_frequency() -> None:
    array = np.full((4, 40, 40), 40, np.int16)
    labels = np.zeros((4, 40, 40), np.uint8)
    labels[1, :4, :4], labels[1, 8:10, :2] = 1, 2  # 16 and 4 voxels of 1600: 1580 background
    image = phantom.image_of(array + np.arange(40, dtype=np.int16))
    voxels = draw(painting_of(image, (labels,), "axial:1"), 40_000, is_balanced=True)
    counts = torch.bincount(voxels.targets[:, 0]).double() / 40_000
    roots = torch.tensor([1580, 16, 4]).double().sqrt()
    assert torch.allclose(counts, roots / roots.sum(), atol=0.01)


def test_uniform_drawing_follows_the_frequency() -> None:
    array = np.full((4, 40, 40), 40, np.int16) + np.arange(40, dtype=np.int16)
    labels = np.zeros((4, 40, 40), np.uint8)
    labels[1, :20] = 1  # half of the slice
    voxels = draw(painting_of(phantom.image_of(array), (labels,), "axial:1"), 20_000)
    assert float((voxels.targets == 1).double().mean()) == pytest.approx(0.5, abs=0.02)


def test_ignored_voxels_are_unlabelled() -> None:
    hounsfield, labels = phantom.body()
    ignored = np.zeros(labels.shape, bool)
    ignored[18, :, :24] = True
    painting = painting_of(
        phantom.image_of(hounsfield), (phantom.on_slices(labels, (18,)),), ignored=ignored
    )
    voxels = draw(painting)
    is_left = voxels.points[:, 2] + painting.scan.body[2].start < 24
    assert torch.equal(voxels.targets[:, 0] == -1, is_left)


def test_organs_are_unknown_where_they_are_not_painted_yet_or_foreign_to_the_scan() -> None:
    hounsfield, labels = phantom.body()
    painting = painting_of(
        phantom.image_of(hounsfield),
        (phantom.on_slices(labels, (18, 29)),),
        not_painted={"spleen": [29]},
    )
    voxels = draw(painting, organs=3)
    on_29 = voxels.points[:, 0] + painting.scan.body[0].start > 29
    assert voxels.is_known[:, 0].all()
    assert torch.equal(voxels.is_known[:, 1], ~on_29)
    assert not voxels.is_known[:, 2].any()  # a third organ, of another scan


def test_overlapping_organs_are_targets_of_their_own_groups() -> None:
    hounsfield, _ = phantom.body()
    first, second = np.zeros((2, 48, 48, 48), np.uint8)
    first[20, 15:30, 15:30], second[20, 25:35, 15:30] = 1, 2
    painting = painting_of(phantom.image_of(hounsfield), (first, second))
    generator = torch.Generator().manual_seed(0)
    voxels = draw_voxels(painting, ((0,), (1,)), 2, 5000, True, generator)
    rows = voxels.points[:, 1] + painting.scan.body[1].start
    both = (voxels.targets == 1).all(1)
    assert both.any()
    assert (rows[both] > 25).all()
    assert (rows[both] < 30).all()


def test_the_same_seed_draws_the_same_voxels() -> None:
    hounsfield, labels = phantom.body()
    painting = painting_of(phantom.image_of(hounsfield), (phantom.on_slices(labels, (18,)),))
    assert torch.equal(draw(painting).points, draw(painting).points)


def test_samples_hold_the_features_at_the_drawn_points(small_model: BaseModel) -> None:
    hounsfield, labels = phantom.body()
    painting = painting_of(phantom.image_of(hounsfield), (phantom.on_slices(labels, (18,)),))
    voxels = draw(painting, 50)
    samples = samples_of(small_model, [painting, painting], [voxels, voxels])
    assert samples.features.shape == (100, sum(small_model.widths))
    assert torch.equal(samples.features[:50], samples.features[50:])
    assert torch.equal(samples.targets[:50], voxels.targets)
