"""Islands: what hangs together with no paint, and what is in one piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import torch  # noqa: TID253
from scipy import ndimage  # noqa: TID253

import reglora_core
from reglora_core.adapter import save_adapter
from reglora_core.islands import is_one_piece, only_largest_, without_unpainted_islands_
from reglora_core.volumes import read_image, read_labels


def scores_of(labels: torch.Tensor, organs: int = 2) -> torch.Tensor:
    """Return scores of .8 for the labels (z, y, x), and the rest of it for the others."""
    one_hot = torch.nn.functional.one_hot(labels, organs + 1).movedim(-1, 0).float()
    return one_hot * 0.7 + 0.1


@pytest.fixture
def labels() -> torch.Tensor:
    """An organ in two pieces of 8 and 12 voxels, and another one beside the second."""
    labels = torch.zeros(12, 8, 8, dtype=torch.long)
    labels[1:3, 1:3, 1:3] = 1
    labels[8:11, 4:6, 4:6] = 1
    labels[8:11, 4:6, 6:8] = 2
    return labels


def test_an_island_without_paint_becomes_what_is_next_likely(labels: torch.Tensor) -> None:
    seeds = torch.full(labels.shape, -1)
    seeds[1] = labels[1]
    scores = scores_of(labels)
    scores[2, 9] = 0.2  # there the other organ comes second, elsewhere the background
    scores[0, 8], scores[0, 10] = scores[0, 8] + 0.05, scores[0, 10] + 0.05
    found = without_unpainted_islands_(scores, seeds).argmax(0)
    expected = labels.clone()
    expected[8:11, 4:6, 4:6] = 0
    expected[9, 4:6, 4:6] = 2
    assert torch.equal(found, expected)


def test_pieces_that_share_a_corner_hang_together() -> None:
    labels = torch.zeros(4, 4, 4, dtype=torch.long)
    labels[0, 0, 0] = labels[1, 1, 1] = 1
    seeds = torch.full(labels.shape, -1)
    seeds[0, 0, 0] = 1
    found = without_unpainted_islands_(scores_of(labels, 1), seeds).argmax(0)
    assert torch.equal(found, labels)


def test_every_island_with_paint_stays(labels: torch.Tensor) -> None:
    seeds = torch.full(labels.shape, -1)
    seeds[1], seeds[9] = labels[1], labels[9]
    scores = scores_of(labels)
    before = scores.clone()
    assert torch.equal(without_unpainted_islands_(scores, seeds), before)


def test_an_organ_that_is_painted_in_another_scan_keeps_its_islands(labels: torch.Tensor) -> None:
    seeds = torch.full(labels.shape, -1)
    seeds[9] = torch.where(labels[9] == 2, 2, 0)  # the first organ is painted nowhere
    found = without_unpainted_islands_(scores_of(labels), seeds).argmax(0)
    assert torch.equal(found, labels)


def test_an_organ_is_kept_where_nothing_of_it_meets_its_paint(labels: torch.Tensor) -> None:
    """Better a result beside the paint than none."""
    seeds = torch.full(labels.shape, -1)
    seeds[6, 0, 0] = 1
    assert torch.equal(without_unpainted_islands_(scores_of(labels), seeds).argmax(0), labels)


def test_the_largest_piece_alone_is_kept_of_the_organs_that_are_named(
    labels: torch.Tensor,
) -> None:
    expected = labels.clone()
    expected[1:3] = 0
    assert torch.equal(only_largest_(scores_of(labels), [1]).argmax(0), expected)
    assert torch.equal(only_largest_(scores_of(labels), [2]).argmax(0), labels)


@pytest.mark.parametrize(("crumbs", "expected"), [(0, True), (1, True), (2, False)])
def test_crumbs_do_not_make_two_pieces(crumbs: int, expected: bool) -> None:
    mask = torch.zeros(10, 10, 10, dtype=torch.bool)
    mask[0:2, 0:2, 0:5] = True  # 20 voxels, of which 1 in 21 is 4.8 %, 2 in 22 are 9.1 %
    for number in range(crumbs):
        mask[5, 5, 4 * number] = True
    assert is_one_piece(mask) is expected


def test_nothing_is_not_in_one_piece() -> None:
    assert not is_one_piece(torch.zeros(3, 3, 3, dtype=torch.bool))


def test_in_the_next_scan_an_organ_in_one_piece_keeps_its_largest(tmp_path: Path) -> None:
    image, painted = phantom.write_case(tmp_path / "case")
    made = reglora_core.adapt(
        image, painted, tmp_path / "out", names=phantom.NAMES, method="head"
    ).adapter
    adapter = reglora_core.load_adapter(made)
    assert set(adapter.in_one_piece) == {"liver", "spleen"}
    save_adapter(replace(adapter, in_one_piece=("spleen",)), tmp_path / "any.safetensors")

    one, other = phantom.body(seed=3)[0], phantom.body(seed=4)[0][:30]
    air = np.full((24, *one.shape[1:]), -1000, one.dtype)
    both = phantom.image_of(np.concatenate([one, air, other]))
    following = phantom.write(tmp_path / "next.nrrd", both)
    once = predicted_liver(made, following, tmp_path)
    anywhere = predicted_liver(tmp_path / "any.safetensors", following, tmp_path)
    pieces, count = ndimage.label(anywhere, np.ones((3, 3, 3)))
    assert count > 1
    assert np.array_equal(once, pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)


def predicted_liver(adapter: Path, image: Path, folder: Path) -> np.ndarray:
    out = folder / "predicted.seg.nrrd"
    reglora_core.predict(adapter, image, out)
    found = read_labels(out, read_image(image))
    return found.mask([organ.name for organ in found.organs].index("liver"))
