"""Scans: intensities on the Hounsfield scale, and the body's box."""

from __future__ import annotations

from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import torch  # noqa: TID253

from reglora_core.intensity import detect_modality, to_hounsfield
from reglora_core.scan import MARGIN, prepare_scan

HERE = Path("scan.nrrd")


def test_a_ct_keeps_its_hounsfield_values() -> None:
    hounsfield, _ = phantom.body()
    scan = prepare_scan(HERE, phantom.image_of(hounsfield), 3.0)
    assert scan.modality == "ct"
    assert np.array_equal(scan.hounsfield.numpy(), hounsfield.clip(-1024, 3071))


def test_values_outside_the_field_of_view_do_not_bleed_into_the_skin() -> None:
    array = np.full((8, 8, 8), 40, np.int16)
    array[:, :, :2] = -3024
    array[:, :, 3:4] = -3024
    scan = prepare_scan(HERE, phantom.image_of(array, (1.5, 1.5, 1.5)), 3.0, "ct")
    # the second working column is the mean of 40 and of -3024 clamped to -1024
    assert scan.hounsfield[0, 0].tolist() == [-1024.0, -492.0, 40.0, 40.0]


def test_a_magnetic_resonance_image_is_scaled_by_its_percentiles() -> None:
    values = np.linspace(0, 1000, 32**3).reshape((32,) * 3).astype(np.float32)
    scan = prepare_scan(HERE, phantom.image_of(values), 3.0)
    assert scan.modality == "other"
    # the 1st percentile (10) becomes -200, the 99th (990) becomes 300
    expected = (values - 10) / 980 * 500 - 200
    assert np.allclose(scan.hounsfield.numpy(), expected.clip(-400, 800), atol=0.5)
    assert scan.body == (slice(0, 32),) * 3


def test_scaling_another_modality_does_not_change_its_scan() -> None:
    values = torch.linspace(0, 1000, 30**3).reshape(30, 30, 30)
    assert torch.allclose(
        to_hounsfield(values, "other"), to_hounsfield(values * 7 + 100, "other"), atol=1e-2
    )


def test_an_image_of_nearly_one_value_stays_finite() -> None:
    values = torch.zeros(10, 10, 10)
    values[0, 0, 0] = 1
    assert torch.isfinite(to_hounsfield(values, "other")).all()


@pytest.mark.parametrize(("share", "modality"), [(0.01, "other"), (0.03, "ct")])
def test_ct_is_told_by_its_share_of_air_and_fat(share: float, modality: str) -> None:
    values = torch.full((1000,), 50.0)
    values[: int(1000 * share)] = -900
    assert detect_modality(values) == modality


def test_the_body_is_the_box_of_what_is_not_air_with_a_margin() -> None:
    array = np.full((40, 40, 40), -1000, np.int16)
    array[10:20, 12:30, 15:25] = 40
    scan = prepare_scan(HERE, phantom.image_of(array), 3.0)
    assert scan.body == (
        slice(10 - MARGIN, 20 + MARGIN),
        slice(12 - MARGIN, 30 + MARGIN),
        slice(15 - MARGIN, 25 + MARGIN),
    )
    assert torch.equal(scan.inside, scan.hounsfield[scan.body])


def test_the_bodys_box_stays_within_the_scan() -> None:
    array = np.full((20, 20, 20), 40, np.int16)
    array[:, :10] = -1000
    assert prepare_scan(HERE, phantom.image_of(array), 3.0).body == (
        slice(0, 20),
        slice(10 - MARGIN, 20),
        slice(0, 20),
    )


def test_a_scan_of_air_alone_is_kept_whole() -> None:
    array = np.full((20, 20, 20), -1000, np.int16)
    array[0, 0, 0] = -990
    assert prepare_scan(HERE, phantom.image_of(array), 3.0).body == (slice(0, 20),) * 3


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_kind_of_number_can_be_read(dtype: type) -> None:
    array = np.random.default_rng(0).integers(0, 200, (12, 12, 12)).astype(dtype)
    scan = prepare_scan(HERE, phantom.image_of(array), 3.0)
    assert scan.hounsfield.dtype == torch.float32
