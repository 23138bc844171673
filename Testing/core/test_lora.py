"""The low-rank update against hand-computed values, float64 references and explicit paths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch  # noqa: TID253
from monai.networks.nets import SwinUNETR  # noqa: TID253
from monai.networks.nets.swin_unetr import WindowAttention  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253
from torch.nn import functional as F  # noqa: TID253

from reglora_core.errors import AdapterError, InputError
from reglora_core.lora import (
    LowRankConfig,
    LowRankUpdate,
    adapter_parameters,
    adapter_state,
    adapters,
    adapters_disabled,
    add_adapters,
    compact_,
    effective_ranks,
    gates,
    initial_ranks,
    load_adapter_state,
    merge_adapters,
    remove_adapters,
    trainable_count,
    unmerge_adapters,
)

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 10), (4, 6)),
    "conv1d": (lambda: nn.Conv1d(6, 8, 3, padding=1), (2, 6, 9)),
    "conv2d": (lambda: nn.Conv2d(6, 8, 3, stride=2), (2, 6, 9, 7)),
    "conv3d": (lambda: nn.Conv3d(6, 8, (3, 1, 2), padding=1), (2, 6, 5, 4, 6)),
    "conv3d, groups": (lambda: nn.Conv3d(6, 9, 3, groups=3), (2, 6, 5, 4, 6)),
    "convtranspose1d": (lambda: nn.ConvTranspose1d(6, 8, 3, stride=2), (2, 6, 5)),
    "convtranspose2d": (lambda: nn.ConvTranspose2d(6, 8, 3, dilation=2), (2, 6, 5, 4)),
    "convtranspose3d": (lambda: nn.ConvTranspose3d(6, 8, 2, stride=2), (2, 6, 3, 4, 2)),
    "convtranspose3d, groups": (
        lambda: nn.ConvTranspose3d(6, 12, 3, stride=2, groups=3),
        (2, 6, 3, 4, 2),
    ),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def a_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_network(kind: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, Tensor]:
    make, shape = LAYERS[kind]
    torch.manual_seed(1)
    return nn.Sequential(make()).to(dtype), torch.randn(shape, dtype=dtype)


def an_adapted_network(
    kind: str, method: str = "arena", rank: int = 3, dtype: torch.dtype = torch.float32
) -> tuple[nn.Sequential, Tensor]:
    """With B drawn too, so that the update is not zero."""
    network, volume = a_network(kind, dtype)
    add_adapters(network, ["0"], LowRankConfig(method, rank), a_generator())
    fill_up(network)
    return network, volume


def fill_up(network: nn.Module) -> None:
    with torch.no_grad():
        for update in adapters(network).values():
            update.up.normal_(generator=a_generator(2))


def zero_gates(network: nn.Module, *columns: int) -> None:
    with torch.no_grad():
        for gate in gates(network).values():
            gate[list(columns)] = 0.0


@pytest.fixture(scope="module")
def the_swin() -> SwinUNETR:
    return SwinUNETR(in_channels=1, out_channels=2, feature_size=48)


@every_layer
@pytest.mark.parametrize("method", ["lora", "arena", "arena+"])
def test_an_adapted_network_starts_as_the_base_network(kind: str, method: str) -> None:
    network, volume = a_network(kind)
    base = network(volume).detach()
    add_adapters(network, ["0"], LowRankConfig(method, 3), a_generator())
    # B is zero, so W + 0 is W to the bit; only the kernel that runs may differ by rounding
    torch.testing.assert_close(network[0].weight, adapters_base(network), rtol=0, atol=0)
    torch.testing.assert_close(network(volume), base, rtol=1e-6, atol=1e-6)


def test_what_arena_plus_starts_with_does_not_depend_on_the_initial_rank() -> None:
    starts = []
    for rank in (2, 5):
        network = nn.Sequential(nn.Linear(6, 10), nn.Linear(10, 6))
        generator = a_generator()
        add_adapters(network, ["*"], LowRankConfig("arena+", rank), generator)
        starts.append((adapters(network)["1"], torch.rand(3, generator=generator)))
    (narrow, then), (wide, then_too) = starts
    assert torch.equal(wide.down[:2], narrow.down)
    torch.testing.assert_close(narrow.gate.detach(), torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(wide.gate.detach(), torch.tensor([2.0, 1.0, 2 / 3, 0.5, 0.4]))
    assert torch.equal(then, then_too)


def adapters_base(network: nn.Module) -> Tensor:
    return network.get_parameter("0.parametrizations.weight.original")


def test_the_update_is_the_product_written_out_by_hand() -> None:
    update = LowRankUpdate(
        torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]]),
        torch.tensor([2.0, -1.0]),
        torch.tensor([[1.0, 4.0], [0.5, 0.0]]),
    )
    weight = torch.tensor([[10.0, 10.0, 10.0], [20.0, 20.0, 20.0]])
    # row 1: 1*2*(1,2,3) + 4*-1*(0,1,-1) = (2, 0, 10); row 2: 0.5*2*(1,2,3) = (1, 2, 3)
    expected = torch.tensor([[12.0, 10.0, 20.0], [21.0, 22.0, 23.0]])
    torch.testing.assert_close(update(weight), expected, rtol=0, atol=0)


def explicit_path(network: nn.Sequential, volume: Tensor) -> Tensor:
    """The base layer's output plus a narrow layer (A), gates, and a 1x1 layer (B)."""
    layer, update = network[0], adapters(network)["0"]
    with adapters_disabled(network):
        base = layer(volume)
    if isinstance(layer, nn.Linear):
        return base + (volume @ update.down.T * update.gate) @ update.up.T
    rank, kernel = update.rank, layer.kernel_size
    spatial = len(kernel)
    groups = layer.groups
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        narrow = update.down.reshape(rank, layer.in_channels, *kernel).transpose(0, 1)
        transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[spatial - 1]
        hidden = transposed(
            volume, narrow, None, layer.stride, layer.padding, 0, groups, layer.dilation
        )
        wide = update.up.repeat(groups, 1)
    else:
        narrow = update.down.reshape(rank, -1, *kernel).repeat(groups, *[1] * (spatial + 1))
        plain = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
        hidden = plain(volume, narrow, None, layer.stride, layer.padding, layer.dilation, groups)
        wide = update.up
    gate = update.gate.repeat(groups).reshape(-1, *[1] * spatial)
    one_by_one = (F.conv1d, F.conv2d, F.conv3d)[spatial - 1]
    return base + one_by_one(
        hidden * gate, wide.reshape(*wide.shape, *[1] * spatial), groups=groups
    )


@every_layer
def test_the_update_is_a_narrow_layer_then_a_1x1_layer(kind: str) -> None:
    network, volume = an_adapted_network(kind, dtype=torch.float64)
    torch.testing.assert_close(
        network(volume), explicit_path(network, volume), rtol=1e-10, atol=1e-10
    )


@every_layer
def test_gradients_match_central_differences(kind: str) -> None:
    network, volume = an_adapted_network(kind, dtype=torch.float64)
    target = torch.randn(network(volume).shape, dtype=torch.float64, generator=a_generator(3))

    def loss() -> Tensor:
        return (network(volume) - target).square().sum()

    loss().backward()
    step = 1e-6
    for parameter in adapter_parameters(network):
        values, gradient = parameter.detach().view(-1), parameter.grad.reshape(-1)
        for index in range(0, len(values), 5):
            at = values[index].item()
            values[index] = at + step
            above = loss().item()
            values[index] = at - step
            below = loss().item()
            values[index] = at
            expected = (above - below) / (2 * step)
            assert gradient[index].item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@every_layer
def test_only_the_update_requires_gradients(kind: str) -> None:
    network, volume = an_adapted_network(kind)
    network(volume).sum().backward()
    assert {id(p) for p in network.parameters() if p.grad is not None} == {
        id(p) for p in adapter_parameters(network)
    }


@every_layer
def test_merging_keeps_the_output_and_the_state_dict_keys(kind: str) -> None:
    network, volume = a_network(kind)
    keys = list(network.state_dict())
    add_adapters(network, ["0"], LowRankConfig("arena", 3), a_generator())
    fill_up(network)
    adapted = network(volume).detach()
    exact = explicit_path(network.double(), volume.double())
    network.float()
    merge_adapters(network)
    assert list(network.state_dict()) == keys
    merged = network(volume)
    assert (merged - adapted).norm() / adapted.norm() <= 1e-6
    assert (merged - exact).norm() / exact.norm() <= 1e-5


@every_layer
def test_the_base_weights_come_back_bit_for_bit(kind: str) -> None:
    network, volume = a_network(kind)
    base = {key: value.clone() for key, value in network.state_dict().items()}
    add_adapters(network, ["0"], LowRankConfig("arena", 3), a_generator())
    fill_up(network)
    adapted = network(volume).detach()
    merged = merge_adapters(network)
    unmerge_adapters(network, merged)
    assert torch.equal(network(volume), adapted)
    remove_adapters(network)
    assert list(network.state_dict()) == list(base)
    assert all(torch.equal(value, base[key]) for key, value in network.state_dict().items())
    assert type(network[0]) is type(LAYERS[kind][0]())


@every_layer
def test_compaction_keeps_the_weight_and_drops_the_zeroed_columns(kind: str) -> None:
    network, _ = an_adapted_network(kind, rank=4, dtype=torch.float64)
    zero_gates(network, 0, 2)
    before = network[0].weight.detach()
    kept = adapters(network)["0"].up[:, [1, 3]].detach()
    compact_(network)
    torch.testing.assert_close(network[0].weight, before, rtol=1e-13, atol=1e-13)
    assert torch.equal(adapters(network)["0"].up, kept)
    assert (initial_ranks(network), effective_ranks(network)) == ({"0": 4}, {"0": 2})


def test_a_layer_compacted_to_rank_zero_runs_trains_saves_and_loads() -> None:
    network, volume = an_adapted_network("conv3d")
    zero_gates(network, 0, 1, 2)
    compact_(network)
    with adapters_disabled(network):
        base = network(volume)
    assert torch.equal(network(volume), base)
    state = adapter_state(network)
    assert {key: tuple(value.shape) for key, value in state.items()} == {
        "0.down": (0, 36),
        "0.gate": (0,),
        "0.up": (8, 0),
    }
    other, _ = a_network("conv3d")
    load_adapter_state(other, state)
    assert torch.equal(other(volume), base)
    assert effective_ranks(other) == {"0": 0}
    merge_adapters(other)
    assert torch.equal(other(volume), base)


@every_layer
@pytest.mark.parametrize("method", ["lora", "arena"])
def test_a_saved_state_gives_another_network_the_same_output(kind: str, method: str) -> None:
    network, volume = an_adapted_network(kind, method, rank=4)
    if method == "arena":
        zero_gates(network, 1)
    state = adapter_state(network)
    assert state["0.up"].shape[1] == (3 if method == "arena" else 4)
    assert ("0.gate" in state) == (method == "arena")
    other, _ = a_network(kind)
    load_adapter_state(other, state)
    torch.testing.assert_close(other(volume), network(volume), rtol=1e-5, atol=1e-5)


def test_a_state_is_a_copy() -> None:
    network, _ = an_adapted_network("linear")
    state = adapter_state(network)
    before = state["0.down"].clone()
    with torch.no_grad():
        adapters(network)["0"].down.add_(1)
    assert torch.equal(state["0.down"], before)


def test_loading_replaces_the_update_that_is_there() -> None:
    network, volume = an_adapted_network("linear", rank=2)
    other, _ = an_adapted_network("linear", rank=5)
    load_adapter_state(other, adapter_state(network))
    torch.testing.assert_close(other(volume), network(volume), rtol=0, atol=0)


def test_a_state_of_other_shapes_is_refused_naming_layer_and_shapes() -> None:
    state = adapter_state(an_adapted_network("linear")[0])
    network = nn.Sequential(nn.Linear(7, 10))
    with pytest.raises(AdapterError, match=r"layer 0 .*\(3, 6\).*\(10, 3\).*\(10, 7\)"):
        load_adapter_state(network, state)
    assert adapters(network) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"9.down": s["0.down"], "9.up": s["0.up"]}, "layer 9.*no such layer"),
        (lambda s: {"1.down": s["0.down"], "1.up": s["0.up"]}, "layer 1.*cannot be adapted"),
        (lambda s: {"0.down": s["0.down"]}, "lacks up of layer 0"),
        (lambda s: s | {"0.bias": s["0.up"]}, "unknown entry '0.bias'"),
        (lambda s: s | {"0.gate": torch.ones(7)}, r"shapes \(3, 6\) and \(7,\) and \(10, 3\)"),
        (lambda s: s | {"0.down": torch.tensor(1.0)}, r"layer 0 has shapes \(\)"),
    ],
)
def test_a_damaged_state_is_refused(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    state = change(adapter_state(an_adapted_network("linear")[0]))
    with pytest.raises(AdapterError, match=message):
        load_adapter_state(nn.Sequential(nn.Linear(6, 10), nn.ReLU()), state)


def test_disabled_adapters_come_back_after_an_error() -> None:
    network, volume = an_adapted_network("linear")
    adapted = network(volume).detach()
    base = F.linear(volume, adapters_base(network), network[0].bias)

    def fail_without_adapters() -> None:
        with adapters_disabled(network):
            assert torch.equal(network(volume), base)
            raise KeyError

    with pytest.raises(KeyError):
        fail_without_adapters()
    assert torch.equal(network(volume), adapted)


def test_the_same_generator_gives_the_same_factors() -> None:
    def factors(seed: int) -> dict[str, Tensor]:
        network, _ = a_network("conv3d")
        add_adapters(network, ["0"], LowRankConfig("arena", 3), a_generator(seed))
        return adapter_state(network)

    first, again, other = factors(5), factors(5), factors(6)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["0.down"], other["0.down"])
    assert not torch.equal(first["0.gate"], other["0.gate"])


def test_factors_are_drawn_as_published() -> None:
    network = nn.Sequential(nn.Linear(100, 400))
    add_adapters(network, ["0"], LowRankConfig("arena", 100), a_generator())
    update = adapters(network)["0"]
    assert update.down.abs().max().item() == pytest.approx(0.1, rel=0.01)  # 1 / sqrt(100)
    assert update.down.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
    assert update.gate.abs().max().item() == pytest.approx(1, rel=0.05)
    assert update.gate.min().item() < -0.9
    assert not update.up.any()


@pytest.mark.parametrize("rank", [0, -3])
def test_a_rank_below_one_is_refused(rank: int) -> None:
    with pytest.raises(InputError, match=f"rank is {rank}"):
        LowRankConfig("arena", rank)


@pytest.mark.parametrize("penalty", [-0.1, float("nan"), float("inf")])
def test_a_penalty_that_is_negative_or_not_finite_is_refused(penalty: float) -> None:
    with pytest.raises(InputError, match="penalty is"):
        LowRankConfig("arena", 8, penalty)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="method is 'dora'"):
        LowRankConfig("dora")


def test_a_rank_above_the_layers_is_clipped_and_reported() -> None:
    network = nn.Sequential(nn.Conv3d(2, 5, 1), nn.Conv3d(5, 7, 3))
    report = add_adapters(network, ["*"], LowRankConfig("arena", 6), a_generator())
    assert report.ranks == {"0": 2, "1": 6}
    assert report.clipped == {"0": (6, 2)}


@pytest.mark.parametrize("targets", [["nowhere"], [], lambda *_: False])
def test_targets_that_fit_no_layer_are_refused(targets: object) -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(InputError):
        add_adapters(network, targets, LowRankConfig(), a_generator())
    assert network[0].weight.requires_grad


def test_a_layer_is_not_adapted_twice() -> None:
    network, _ = an_adapted_network("linear")
    with pytest.raises(InputError, match="layer 0 has a low-rank update"):
        add_adapters(network, ["0"], LowRankConfig(), a_generator())


def test_targets_can_be_chosen_by_a_function() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    report = add_adapters(
        network, lambda _, layer: layer.out_features == 3, LowRankConfig(rank=2), a_generator()
    )
    assert report.ranks == {"2": 2}


@pytest.mark.parametrize(
    ("method", "rank", "count"),
    [
        ("lora", 4, 69_120),  # the published counts: 3 * rank columns of d + 3 d values
        ("lora", 8, 138_240),
        ("arena", 8, 138_240 + 8 * 24),  # and the gates, which the published count leaves out
    ],
)
def test_swinunetr_has_the_published_number_of_parameters(
    the_swin: SwinUNETR, method: str, rank: int, count: int
) -> None:
    report = add_adapters(the_swin, ["attn.qkv"], LowRankConfig(method, rank), a_generator())
    assert trainable_count(the_swin) == count
    assert list(report.ranks.values()) == [3 * rank] * 8
    remove_adapters(the_swin)


def test_swinunetr_has_its_state_dict_keys_after_merging(the_swin: SwinUNETR) -> None:
    keys = list(the_swin.state_dict())
    add_adapters(the_swin, ["attn.qkv"], LowRankConfig(), a_generator())
    merge_adapters(the_swin)
    assert list(the_swin.state_dict()) == keys


def test_window_attention_reads_its_adapted_weight_once() -> None:
    attention = WindowAttention(12, 3, (3, 3, 3), qkv_bias=True)
    add_adapters(attention, ["qkv"], LowRankConfig("arena", 2), a_generator())
    calls: list[int] = []
    adapters(attention)["qkv"].register_forward_hook(lambda *_: calls.append(1))
    attention(torch.randn(5, 27, 12), None)
    assert calls == [1]


def test_half_precision_weights_get_half_precision_updates() -> None:
    network, volume = a_network("linear", torch.bfloat16)
    add_adapters(network, ["0"], LowRankConfig(), a_generator())
    assert {p.dtype for p in adapter_parameters(network)} == {torch.bfloat16}
    network(volume).sum().backward()


def test_autocast_computes_the_weight_in_full_precision() -> None:
    network, volume = an_adapted_network("linear")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adapted = network(volume)
        merge_adapters(network)
        merged = network(volume)
    assert network[0].weight.dtype == torch.float32
    assert torch.equal(adapted, merged)
