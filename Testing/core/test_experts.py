"""Experts: paint on the working grid, carried on by the image and between outlines."""

from __future__ import annotations

from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import torch  # noqa: TID253
from scipy.sparse import coo_matrix  # noqa: TID253
from scipy.sparse.csgraph import dijkstra  # noqa: TID253

from reglora_core.annotation import annotation_of
from reglora_core.experts import (
    Interpolation,
    PaintedGrid,
    Propagation,
    between,
    given_expert,
    paint_on_grid,
)
from reglora_core.grids import Grid, Orientation
from reglora_core.job import Annotated
from reglora_core.organs import organ
from reglora_core.scan import prepare_scan
from reglora_core.volumes import LabelMap

LPS = Orientation((0, 1, 2), (False, False, False))
ORGANS = (organ(1, "liver"), organ(2, "spleen"))


def a_paint(
    planes: torch.Tensor,
    positions: list[float],
    shape: tuple[int, ...],
    axis: int = 0,
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    organs: int = 1,
) -> PaintedGrid:
    return PaintedGrid(axis, torch.tensor(positions), planes.long(), shape, spacing, organs)


def shortest_lengths(heat: np.ndarray, seeds: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return the length of the shortest path from any seed to each voxel, by Dijkstra."""
    number = np.arange(heat.size).reshape(heat.shape)
    starts, ends, lengths = [], [], []
    for offset in np.ndindex(3, 3, 3):
        step = np.array(offset) - 1
        if not step.any():
            continue
        of = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, heat.shape, strict=True))
        to = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, heat.shape, strict=True))
        distance = (step * spacing) ** 2
        starts.append(number[of].ravel())
        ends.append(number[to].ravel())
        lengths.append(np.sqrt(distance.sum() + (heat[of] - heat[to]) ** 2).ravel())
    values = (np.concatenate(lengths), (np.concatenate(starts), np.concatenate(ends)))
    graph = coo_matrix(values, shape=(heat.size, heat.size)).tocsr()
    found = dijkstra(graph, indices=number[seeds], min_only=True)
    return found.reshape(heat.shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_propagation_follows_the_shortest_paths(axis: int) -> None:
    hounsfield = torch.from_numpy(
        np.random.default_rng(axis).normal(40, 60, (7, 8, 9)).astype(np.float32)
    )
    shape, spacing = (7, 8, 9), (3.0, 2.0, 1.0)
    in_plane = [n for k, n in enumerate(shape) if k != axis]
    planes = torch.zeros(2, *in_plane)
    planes[0, 2:5, 3:6], planes[1, 3:6, 2:5] = 1, 2
    paint = a_paint(planes, [1.5, 5.5], shape, axis, spacing, organs=2)
    expert = Propagation(scans=6)
    scores = expert(hounsfield, paint)

    seeds = paint.seeds().numpy()
    heat = expert.contrast * hounsfield.clamp(*expert.window).numpy()
    lengths = np.stack([shortest_lengths(heat, seeds == label, spacing) for label in range(3)])
    expected = torch.from_numpy(-lengths / expert.temperature).softmax(0)
    assert torch.allclose(scores.double(), expected, atol=1e-3)


def test_two_scans_come_close_to_the_shortest_paths() -> None:
    hounsfield, labels = phantom.body()
    part = (slice(14, 34, 2), slice(10, 34, 2), slice(8, 40, 2))
    image = torch.from_numpy(hounsfield[part].astype(np.float32))
    truth = labels[part].astype(np.int64)
    planes = torch.from_numpy(truth[[2, 7]])
    paint = a_paint(planes, [2.5, 7.5], tuple(image.shape), 0, (6.0, 6.0, 6.0), organs=2)
    two, many = Propagation(scans=2)(image, paint), Propagation(scans=10)(image, paint)
    assert float((two.argmax(0) == many.argmax(0)).float().mean()) > 0.99


def test_propagation_stops_at_an_edge() -> None:
    hounsfield = torch.zeros(9, 12, 12)
    hounsfield[:, 3:8, 3:8] = 200
    planes = torch.zeros(2, 12, 12)
    planes[:, 3:8, 3:8] = 1
    scores = Propagation()(hounsfield, a_paint(planes, [0.5, 8.5], (9, 12, 12)))
    assert torch.equal(scores.argmax(0) == 1, hounsfield == 200)


def a_disc(radius: float, size: int = 41) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ((rows - size // 2) ** 2 + (columns - size // 2) ** 2 <= radius**2).long()


def test_halfway_between_two_discs_lies_a_disc_of_the_mean_radius() -> None:
    paint = a_paint(torch.stack([a_disc(6), a_disc(14)]), [0.5, 8.5], (9, 41, 41))
    scores = Interpolation()(torch.zeros(9, 41, 41), paint)
    assert scores.shape == (2, 9, 41, 41)
    middle = (scores[:, 4].argmax(0) == 1).sum().item()
    assert middle == pytest.approx(a_disc(10).sum().item(), rel=0.05)
    quarter = (scores[:, 2].argmax(0) == 1).sum().item()
    assert quarter == pytest.approx(a_disc(8).sum().item(), rel=0.06)


def test_interpolation_gives_the_painted_slices_back() -> None:
    discs = torch.stack([a_disc(6), a_disc(14)])
    scores = Interpolation()(torch.zeros(9, 41, 41), a_paint(discs, [0.5, 8.5], (9, 41, 41)))
    assert torch.equal(scores[:, 0].argmax(0), discs[0])
    assert torch.equal(scores[:, 8].argmax(0), discs[1])


def test_beyond_the_outermost_slice_its_outline_goes_on() -> None:
    discs = torch.stack([a_disc(6), a_disc(14)])
    scores = Interpolation()(torch.zeros(12, 41, 41), a_paint(discs, [3.5, 8.5], (12, 41, 41)))
    assert torch.equal(scores[:, 0].argmax(0), discs[0])
    assert torch.equal(scores[:, 11].argmax(0), discs[1])


def test_an_organ_absent_from_a_slice_ends_before_it() -> None:
    planes = torch.stack([a_disc(6), torch.zeros(41, 41, dtype=torch.long)])
    scores = Interpolation()(torch.zeros(9, 41, 41), a_paint(planes, [0.5, 8.5], (9, 41, 41)))
    sizes = [(scores[:, plane].argmax(0) == 1).sum().item() for plane in range(9)]
    assert sizes[0] == a_disc(6).sum().item()
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0


def test_slices_that_are_largely_unlabelled_have_no_outlines() -> None:
    discs = torch.stack([a_disc(6), a_disc(9), a_disc(3)])
    discs[1][:, :38] = -1
    shape = (12, 41, 41)
    scores = Interpolation()(torch.zeros(shape), a_paint(discs, [1.5, 5.5, 9.5], shape))
    whole = Interpolation()(torch.zeros(shape), a_paint(discs[[0, 2]], [1.5, 9.5], shape))
    assert torch.equal(scores, whole)
    discs[:] = -1
    scores = Interpolation()(torch.zeros(shape), a_paint(discs, [1.5, 5.5, 9.5], shape))
    assert torch.equal(scores, torch.full((2, *shape), 0.5))


def test_each_plane_lies_between_its_neighbouring_slices() -> None:
    low, high, share = between(torch.tensor([1.5, 4.5]), 7)
    # planes are at 0.5, 1.5, ... 6.5
    assert low.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert high.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert share.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1, 0, 0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_paint_lies_on_the_working_planes_nearest_to_its_slices(axis: int) -> None:
    labels = phantom.body()[1]
    slices = (18, 30)
    sparse = phantom.on_slices(labels, slices, axis)
    label_map = LabelMap(ORGANS, (sparse.astype(np.uint16),), (0, 0))
    annotation = annotation_of(label_map, LPS, Annotated.parse("auto"))
    grid = Grid.of((48, 48, 48), (1.5, 1.5, 1.5), 3.0)
    paint = paint_on_grid(annotation, grid, (0, 1), (0, 1))
    assert paint.positions.tolist() == [9.25, 15.25]
    assert paint.indices.tolist() == [9, 15]
    expected = np.full((24, 24, 24), -1)
    moved = np.moveaxis(expected, axis, 0)
    moved[[9, 15]] = np.moveaxis(labels, axis, 0)[list(slices)][:, 1::2, 1::2]
    assert np.array_equal(paint.seeds().numpy(), expected)


def test_an_organ_not_painted_yet_leaves_its_slices_background_open() -> None:
    labels = phantom.on_slices(phantom.body()[1], (18, 30))
    labels[30][labels[30] == 2] = 0
    label_map = LabelMap(ORGANS, (labels.astype(np.uint16),), (0, 0))
    annotation = annotation_of(label_map, LPS, Annotated.parse("auto"), {"spleen": [30]})
    grid = Grid.of((48, 48, 48), (3.0, 3.0, 3.0), 3.0)
    planes = paint_on_grid(annotation, grid, (0, 1), (0, 1)).planes
    assert set(planes[0].unique().tolist()) == {0, 1, 2}
    assert set(planes[1].unique().tolist()) == {-1, 1}


def test_organs_of_another_group_are_background() -> None:
    labels = phantom.on_slices(phantom.body()[1], (18, 30))
    label_map = LabelMap(ORGANS, (labels.astype(np.uint16),), (0, 0))
    annotation = annotation_of(label_map, LPS, Annotated.parse("auto"))
    grid = Grid.of((48, 48, 48), (3.0, 3.0, 3.0), 3.0)
    planes = paint_on_grid(annotation, grid, (3, 7), (7,)).planes
    assert np.array_equal(planes.numpy(), (labels[[18, 30]] == 2).astype(np.int64))


def test_a_line_one_voxel_wide_is_not_lost_on_a_coarser_grid() -> None:
    """Where a sagittal slice was painted, each axial slice is labelled along one line."""
    labels = phantom.body()[1]
    ignored = np.ones(labels.shape, bool)
    ignored[:, :, 16] = False  # the nearest voxels of the working grid are the odd ones
    label_map = LabelMap(ORGANS, (np.where(ignored, 0, labels).astype(np.uint16),), (0, 0), ignored)
    annotation = annotation_of(label_map, LPS, Annotated.parse("all"))
    paint = paint_on_grid(annotation, Grid.of((48,) * 3, (1.5,) * 3, 3.0), (0, 1), (0, 1))
    seeds = paint.seeds().numpy()
    assert np.array_equal((seeds >= 0).nonzero()[2], np.full(24 * 24, 8))
    assert np.array_equal(seeds[:, :, 8], labels[1::2, 1::2, 16])
    assert not len(paint.whole_slices().positions)


def test_paint_is_cropped_to_the_body() -> None:
    hounsfield, labels = phantom.body()
    scan = prepare_scan(Path("ct"), phantom.image_of(hounsfield), 3.0)
    label_map = LabelMap(ORGANS, (phantom.on_slices(labels, (18, 30)).astype(np.uint16),), (0, 0))
    annotation = annotation_of(label_map, scan.orientation, Annotated.parse("auto"))
    paint = paint_on_grid(annotation, scan.grid, (0, 1), (0, 1))
    seeds = paint.cropped(scan.body).seeds()
    assert torch.equal(seeds, paint.seeds()[scan.body])
    assert seeds.shape == scan.inside.shape


def test_a_result_from_elsewhere_becomes_one_hot_scores() -> None:
    labels = torch.tensor([0, 2, 1]).reshape(3, 1, 1)
    scores = given_expert(labels, a_paint(torch.zeros(1, 1, 1), [0.5], (3, 1, 1), organs=2))
    assert scores[:, :, 0, 0].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
