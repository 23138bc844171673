"""Features: the same from windows as from the whole volume, and none for air."""

from __future__ import annotations

from dataclasses import replace

import phantom
import pytest
import torch  # noqa: TID253

from reglora_core.features import (
    each_window,
    features_at,
    inner_weight,
    patch_shape,
    sample_maps,
    windows,
)
from reglora_core.intensity import AIR_HU
from reglora_core.models.base import BaseModel


class Local:
    """A family of networks whose features are the voxels themselves, and their mean of eight."""

    def stride(self, network: torch.nn.Module) -> int:
        return 2

    def widths(self, network: torch.nn.Module) -> tuple[int, ...]:
        return (1, 1)

    def feature_maps(
        self, network: torch.nn.Module, hounsfield: torch.Tensor
    ) -> list[torch.Tensor]:
        batch = hounsfield[:, None]
        return [torch.nn.functional.avg_pool3d(batch, 2), batch]


@pytest.fixture
def a_local_model(small_model: BaseModel) -> BaseModel:
    return replace(small_model, family=Local(), patch=(16, 16, 16))


@pytest.fixture
def a_volume() -> torch.Tensor:
    return torch.from_numpy(phantom.body()[0]).float()[:40, :37, :29]


def test_windows_cover_every_voxel_and_no_patch_is_exceeded(a_volume: torch.Tensor) -> None:
    seen = torch.zeros(a_volume.shape)
    for window in windows(a_volume, (16, 16, 16), 4):
        assert window.hounsfield.shape == (16, 16, 16)
        seen[window.box] += 1
    assert (seen > 0).all()


def test_a_volume_smaller_than_the_patch_is_one_window_padded_by_air(
    a_volume: torch.Tensor,
) -> None:
    (window,) = windows(a_volume, (128, 128, 128), 16)
    assert window.hounsfield.shape == (48, 48, 32)
    assert torch.equal(window.hounsfield[:40, :37, :29], a_volume)
    assert (window.hounsfield[40:] == AIR_HU).all()
    assert (window.hounsfield[:, :, 29:] == AIR_HU).all()


def test_windows_are_no_larger_than_the_patch_or_the_rounded_volume() -> None:
    assert patch_shape(torch.Size((10, 64, 300)), (96, 96, 96), 32) == (32, 64, 96)


def test_a_tiny_volumes_window_has_more_than_one_voxel_at_the_coarsest_level() -> None:
    assert patch_shape(torch.Size((10, 32, 7)), (96, 96, 96), 32) == (32, 32, 64)


def test_features_of_a_voxel_centre_are_those_of_the_voxel(
    a_local_model: BaseModel, a_volume: torch.Tensor
) -> None:
    index = torch.tensor([[0, 0, 0], [39, 36, 28], [20, 11, 7], [15, 16, 17]])
    features = features_at(a_local_model, a_volume, index + 0.5)
    assert torch.allclose(features[:, 1], a_volume[index.unbind(1)], atol=0.05)


def test_features_between_voxels_are_interpolated(a_local_model: BaseModel) -> None:
    volume = torch.arange(16.0)[:, None, None].expand(16, 16, 16) * 100
    points = torch.tensor([[4.75, 8.5, 8.5], [5.5, 8.2, 8.9]])
    # the fine level: 100 * (point - 0.5); the coarse level is the same ramp
    assert torch.allclose(
        features_at(a_local_model, volume, points),
        torch.tensor([[425.0, 425.0], [500.0, 500.0]]),
        atol=0.01,
    )


def test_features_from_windows_are_those_of_the_whole_volume(
    a_local_model: BaseModel, a_volume: torch.Tensor
) -> None:
    whole = replace(a_local_model, patch=(64, 64, 64))
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(500, 3, generator=generator) * (torch.tensor(a_volume.shape) - 3.0) + 1.5
    assert torch.allclose(
        features_at(a_local_model, a_volume, points)[:, 1],
        features_at(whole, a_volume, points)[:, 1],
        atol=0.1,
    )


def test_sampled_maps_are_in_the_order_z_y_x() -> None:
    level = torch.zeros(1, 3, 4, 6, 8)
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = -1
        level[0, axis] = torch.arange(level.shape[2 + axis]).view(shape).float()
    points = torch.tensor([[2.5 / 4, 1.5 / 6, 6.5 / 8]])
    assert torch.allclose(sample_maps([level], points), torch.tensor([[2.0, 1.0, 6.0]]), atol=1e-4)


def test_the_weight_is_largest_in_the_middle_and_symmetric() -> None:
    weight = inner_weight(torch.Size((16, 16, 16)))
    assert (weight > 0).all()
    assert torch.allclose(weight, weight.flip(0, 1, 2))
    assert weight[8, 8, 8] == weight.max()
    assert weight[0, 0, 0] == weight.min()


def test_windows_of_air_never_reach_the_network(
    a_local_model: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.Size] = []
    maps = BaseModel.feature_maps

    def counted(model: BaseModel, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        calls.append(hounsfield.shape)
        return maps(model, hounsfield)

    monkeypatch.setattr(BaseModel, "feature_maps", counted)
    volume = torch.full((64, 16, 16), -1000.0)
    volume[:8] = 40
    parts = list(each_window(a_local_model, volume))
    assert len(parts) == 5  # windows of 16 at 0, 12, 24, 36, 48
    assert [part is None for _, part in parts] == [False, True, True, True, True]
    assert calls == [torch.Size((1, 16, 16, 16))]


def test_no_window_exceeds_the_patch_whatever_the_volume(
    a_local_model: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 0

    def measured(model: BaseModel, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        nonlocal largest
        largest = max(largest, hounsfield.numel())
        return Local().feature_maps(model.network, hounsfield)

    monkeypatch.setattr(BaseModel, "feature_maps", measured)
    volume = torch.full((100, 50, 30), 40.0)
    for _ in each_window(a_local_model, volume):
        pass
    features_at(a_local_model, volume, torch.tensor([[50.0, 25.0, 15.0]]))
    assert largest == 16**3
