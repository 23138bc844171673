"""Adapter files: what they keep, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: TID253
from safetensors import safe_open  # noqa: TID253
from safetensors.torch import save_file  # noqa: TID253

from reglora_core import lora
from reglora_core.adapter import FORMAT, Adapter, load_adapter, save_adapter
from reglora_core.errors import AdapterError, OutputError
from reglora_core.head import Head, HeadConfig
from reglora_core.models.base import BaseModel
from reglora_core.organs import organ


class Trap:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def an_update(model: BaseModel) -> dict[str, torch.Tensor]:
    """Return an update of rank 2 of which every gate survives; the model is left plain."""
    generator = torch.Generator().manual_seed(0)
    config = lora.LowRankConfig("arena", rank=2)
    lora.add_adapters(model.network, model.is_adapted_layer, config, generator)
    for parameter in lora.adapter_parameters(model.network):
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    state = lora.adapter_state(model.network)
    lora.remove_adapters(model.network)
    return state


@pytest.fixture
def an_adapter(small_model: BaseModel) -> Adapter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        heads = [Head(small_model.widths, ((0,), (1,)), HeadConfig(hidden=8)) for _ in range(2)]
    heads[0].standardise_by(torch.randn(50, sum(small_model.widths)) * 1e5)
    return Adapter(
        base="reglora-tiny",
        base_sha256=small_model.sha256,
        organs=(organ(3, "liver"), organ(70, "Größe & Wärme")),
        groups=((0,), (1,)),
        modality="ct",
        spacing_mm=3.0,
        method="arena",
        hidden=8,
        ranks={"layer": 2},
        held_out_dice={"liver": 0.9, "Größe & Wärme": None},
        provenance={"seed": 0},
        update=an_update(small_model),
        heads=tuple(head.state_dict() for head in heads),
    )


@pytest.fixture
def a_file(an_adapter: Adapter, tmp_path: Path) -> Path:
    path = tmp_path / "ein Adapter ä.safetensors"
    save_adapter(an_adapter, path)
    return path


def test_an_adapter_is_the_same_after_writing_and_reading(
    an_adapter: Adapter, a_file: Path
) -> None:
    read = load_adapter(a_file)
    assert read.describe() == an_adapter.describe()
    assert read.organs == an_adapter.organs
    assert read.groups == an_adapter.groups
    assert read.update.keys() == an_adapter.update.keys()
    for key, value in an_adapter.update.items():
        assert torch.equal(read.update[key], value.half())


def test_tensors_are_half_precision_but_for_the_statistics(a_file: Path) -> None:
    with safe_open(a_file, "pt") as file:
        kinds = {key: file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
    singles = {key for key, kind in kinds.items() if kind == torch.float32}
    assert singles == {f"head/{k}/{name}" for k in (0, 1) for name in ("mean", "deviation")}
    assert set(kinds.values()) == {torch.float16, torch.float32}


def test_an_attached_adapter_changes_the_network_as_it_was_learnt(
    an_adapter: Adapter, a_file: Path, small_model: BaseModel
) -> None:
    volume = torch.randn(1, 32, 32, 32, generator=torch.Generator().manual_seed(1)) * 100
    with torch.no_grad():
        plain = small_model.feature_maps(volume)[-1]
        lora.load_adapter_state(small_model.network, an_adapter.update)
        learnt = small_model.feature_maps(volume)[-1]
        lora.remove_adapters(small_model.network)
        load_adapter(a_file).attach_to(small_model)
        attached = small_model.feature_maps(volume)[-1]
    assert float((learnt - plain).abs().max()) > 0.1
    assert torch.allclose(attached, learnt, rtol=1e-2, atol=1e-2)


def test_heads_are_rebuilt(an_adapter: Adapter, a_file: Path, small_model: BaseModel) -> None:
    heads = load_adapter(a_file).build_heads(small_model)
    assert len(heads) == 2
    assert torch.equal(heads[0].mean, an_adapter.heads[0]["mean"])
    assert heads[1].groups == ((0,), (1,))
    assert not heads[0].training


def test_another_base_network_is_refused(a_file: Path, small_model: BaseModel) -> None:
    other = replace(small_model, sha256="0" * 64)
    with pytest.raises(AdapterError, match=r"weights .*, this is 'reglora-tiny' with 000000"):
        load_adapter(a_file).attach_to(other)
    assert not lora.adapters(other.network)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"nothing\.safetensors: no such adapter"):
        load_adapter(tmp_path / "nothing.safetensors")
    with pytest.raises(AdapterError, match="no such adapter"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(a_file: Path, share: float) -> None:
    content = a_file.read_bytes()
    a_file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(AdapterError, match="not a complete adapter file") as caught:
        load_adapter(a_file)
    assert "\n" not in str(caught.value)


def rewritten(path: Path, description: Any, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """Write an adapter's tensors with another description."""
    with safe_open(path, "pt") as file:
        own = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    target = path.with_name("other.safetensors")
    text = description if isinstance(description, str) else json.dumps(description)
    save_file(own if tensors is None else tensors, target, {"reglora": text})
    return target


def test_a_newer_format_is_refused(a_file: Path, an_adapter: Adapter) -> None:
    newer = rewritten(a_file, {**an_adapter.describe(), "format": FORMAT + 1, "unheard_of": 1})
    with pytest.raises(AdapterError, match=f"adapter format {FORMAT + 1}; .* up to {FORMAT}"):
        load_adapter(newer)


@pytest.mark.parametrize("description", ["", "{", "[]", "3", "{}", '{"format": null}'])
def test_a_safetensors_file_that_is_no_adapter_is_refused(a_file: Path, description: str) -> None:
    with pytest.raises(AdapterError, match="not an adapter"):
        load_adapter(rewritten(a_file, description))


def test_plain_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(AdapterError, match="not an adapter"):
        load_adapter(path)


@pytest.mark.parametrize(
    "change",
    [
        {"organs": None},
        {"organs": [{"value": 1}]},
        {"organs": ["liver"]},
        {"groups": [[0], [5]]},
        {"groups": [[0, 0], [1]]},
        {"groups": 3},
        {"surprise": 1},
    ],
)
def test_a_damaged_description_is_refused(
    a_file: Path, an_adapter: Adapter, change: dict[str, Any]
) -> None:
    with pytest.raises(AdapterError, match=r"other\.safetensors: its description is incomplete"):
        load_adapter(rewritten(a_file, {**an_adapter.describe(), **change}))


def test_an_adapter_without_heads_is_refused(a_file: Path, an_adapter: Adapter) -> None:
    with pytest.raises(AdapterError, match="no heads"):
        load_adapter(rewritten(a_file, an_adapter.describe(), {"update/x": torch.zeros(1)}))


def test_heads_of_other_shapes_are_refused(
    a_file: Path, an_adapter: Adapter, small_model: BaseModel
) -> None:
    other = load_adapter(rewritten(a_file, {**an_adapter.describe(), "hidden": 9}))
    with pytest.raises(AdapterError, match="shapes"):
        other.build_heads(small_model)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pkl"])
def test_a_pickle_is_refused_and_what_it_holds_is_not_run(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"adapter{suffix}"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(AdapterError, match="not a complete adapter file"):
        load_adapter(path)
    assert not (tmp_path / "sprung").exists()


def test_a_place_that_cannot_be_written_keeps_the_old_file(
    an_adapter: Adapter, tmp_path: Path
) -> None:
    with pytest.raises(OutputError):
        save_adapter(an_adapter, tmp_path / "no folder" / "a.safetensors")
    assert not list(tmp_path.iterdir())
