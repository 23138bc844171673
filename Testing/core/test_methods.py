"""The methods against their papers: published counts, equations by hand, start and way back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core import lora
from reglora_core.errors import AdapterError, InputError
from reglora_core.head import organ_loss
from reglora_core.lora import LowRankConfig, LowRankUpdate, add_adapters, gates
from reglora_core.methods.adalora import (
    BudgetAllocation,
    BudgetSchedule,
    Importance,
    orthogonality,
)
from reglora_core.methods.adaptation import Adaptation, MethodConfig, begin, refuse_undefined
from reglora_core.methods.branches import (
    Bottleneck,
    SpatialAdapter,
    attach,
    branches,
    remove_branches,
)
from reglora_core.methods.catalogue import METHODS, method_entry
from reglora_core.methods.heads import ClassHead, LinearHead, TrainedClasses
from reglora_core.methods.parts import parts_of
from reglora_core.methods.scratch import calibrate_
from reglora_core.methods.sora import ConstantShrinkage, mean_l1
from reglora_core.methods.trained import (
    load_trained_state,
    merge_trained,
    remove_trained,
    trained_state,
)
from reglora_core.models import segresnet, swinunetr
from reglora_core.models.base import BaseModel
from reglora_core.models.families import family_of
from reglora_core.models.registry import model_entry
from reglora_core.models.swinunetr import build
from reglora_core.models.tiny import TinyConfig, TinyUNet
from reglora_core.models.unet3d import UNet3D
from reglora_core.proximal import Annealing, build_optimizer

TRAINED = [
    name
    for name in METHODS
    if method_entry(name).kind != "none" and method_entry(name).head == "mlp"
]
ON_TINY = [name for name in TRAINED if name not in ("adaptformer", "affine-ln")]


def a_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_swin(feature_size: int) -> BaseModel:
    entry = model_entry("swinunetr")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build(feature_size=feature_size).eval()
    return BaseModel(entry, network, family_of(entry), "", (32, 32, 32))


@pytest.fixture(scope="module")
def the_large_swin() -> BaseModel:
    """SwinUNETR as published, of feature size 48."""
    return a_swin(48)


@pytest.fixture(scope="module")
def a_small_swin() -> BaseModel:
    return a_swin(12)


@pytest.fixture
def the_swin(the_large_swin: BaseModel) -> Iterator[BaseModel]:
    yield the_large_swin
    remove_trained(the_large_swin.network)


@pytest.fixture
def a_tiny_model() -> BaseModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = TinyConfig(widths=(4, 6, 8), classes=("background", "liver", "spleen"))
        network = TinyUNet(config).eval()
    entry = model_entry("reglora-tiny")
    return BaseModel(entry, network, family_of(entry), "", (32, 32, 32))


# Published counts (FSEFT, ARENA; docs/method.md), on SwinUNETR of feature size 48


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (MethodConfig("lora", rank=4), 69_120),
        (MethodConfig("lora", rank=8), 138_240),
        (MethodConfig("arena", rank=8), 138_240 + 8 * 24),  # and a gate per column
        (MethodConfig("gates", rank=8), 138_240 + 8 * 24),
        (MethodConfig("sora", rank=8), 138_240 + 8 * 24),
        (MethodConfig("arena+", rank=8), 138_240 + 8 * 24),
        (MethodConfig("adalora", rank=8), 207_360 + 8 * 36),  # starts at 12 for 8
        (MethodConfig("bitfit"), 210_690),
        (MethodConfig("affine-ln"), 17_280),
        (MethodConfig("adaptformer"), 47_648),
        (MethodConfig("spatial-adapter"), 2 * 48 * 48 * 27),
        (MethodConfig("full-ft"), 62_186_659 - 49),  # of 62.19 M; the head has the other 49
        (MethodConfig("linear-probe"), 0),
        (MethodConfig("zero-shot"), 0),
        (MethodConfig("decoder-ft"), 19_597_824),
        (MethodConfig("affine-ln", trains_decoder=True), 17_280 + 19_597_824),
        (MethodConfig("lora", rank=8, trains_decoder=True), 138_240 + 19_597_824),
    ],
    ids=lambda value: f"{value.name}-{value.rank}" if isinstance(value, MethodConfig) else "",
)
def test_swinunetr_has_the_published_number_of_parameters(
    the_swin: BaseModel, config: MethodConfig, count: int
) -> None:
    assert begin(the_swin, config, a_generator()).trainable_count == count


def test_the_linear_probe_of_one_organ_has_49_parameters() -> None:
    head = LinearHead((768, 384, 192, 96, 48, 48), ((0,),))
    assert sum(p.numel() for p in head.parameters()) == 49


def test_the_whole_network_has_62_19_million_parameters(the_swin: BaseModel) -> None:
    count = sum(parameter.numel() for parameter in the_swin.network.parameters())
    assert count == 62_186_659  # as torch counts them, the output layer's 49 included


# The interface


def a_volume(model: BaseModel) -> torch.Tensor:
    """Return noise of two voxels at the coarsest level."""
    size = 2 * model.stride
    return 40 * torch.randn(1, size, size, size, generator=a_generator(3))


def outputs(model: BaseModel) -> torch.Tensor:
    with torch.no_grad():
        return model.family.feature_maps(model.network, a_volume(model))[-1]


def a_fit(model: BaseModel, config: MethodConfig, steps: int = 2) -> Adaptation:
    """Train on a made-up target."""
    adaptation = begin(model, config, a_generator())
    optimizer = adaptation.optimizer(1e-2, steps=steps)
    volume = a_volume(model)
    for _ in range(steps):
        maps = model.family.feature_maps(model.network, volume)
        loss = (maps[-1] - 1).square().mean() + adaptation.regulariser()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return adaptation


def a_model_for(method: str, tiny: BaseModel, swin: BaseModel) -> BaseModel:
    return tiny if method in ON_TINY else swin


@pytest.mark.parametrize("method", [name for name in TRAINED if name != "scratch"])
def test_every_method_starts_as_the_base_network_and_leaves_it_bit_for_bit(
    a_tiny_model: BaseModel, a_small_swin: BaseModel, method: str
) -> None:
    model = a_model_for(method, a_tiny_model, a_small_swin)
    base, weights = outputs(model), {k: v.clone() for k, v in model.network.state_dict().items()}
    begin(model, MethodConfig(method, rank=2), a_generator())
    torch.testing.assert_close(outputs(model), base, rtol=1e-5, atol=1e-5)
    remove_trained(model.network)
    a_fit(model, MethodConfig(method, rank=2))
    assert not torch.equal(outputs(model), base)
    remove_trained(model.network)
    assert list(model.network.state_dict()) == list(weights)
    assert all(torch.equal(weights[k], v) for k, v in model.network.state_dict().items())
    assert not any(p.requires_grad for p in model.network.parameters())
    torch.testing.assert_close(outputs(model), base, rtol=0, atol=0)


@pytest.mark.parametrize("method", TRAINED)
def test_a_saved_state_gives_the_base_network_the_same_output(
    a_tiny_model: BaseModel, a_small_swin: BaseModel, method: str
) -> None:
    model = a_model_for(method, a_tiny_model, a_small_swin)
    a_fit(model, MethodConfig(method, rank=2))
    expected, state = outputs(model), trained_state(model.network)
    remove_trained(model.network)
    load_trained_state(model.network, state)
    torch.testing.assert_close(outputs(model), expected, rtol=1e-5, atol=1e-5)
    assert trained_state(model.network).keys() == state.keys()
    merge_trained(model.network)
    torch.testing.assert_close(outputs(model), expected, rtol=1e-5, atol=1e-5)
    if model is a_small_swin:  # shared: what was merged must go again
        model.network.load_state_dict(a_swin(12).network.state_dict(), strict=False)
        remove_trained(model.network)


@pytest.mark.parametrize("method", ["lora", "bitfit", "linear-probe"])
def test_the_decoder_can_be_trained_too(a_tiny_model: BaseModel, method: str) -> None:
    names = [name for name, _ in a_tiny_model.network.named_parameters()]
    config = MethodConfig(method, rank=2, trains_decoder=True)
    begin(a_tiny_model, config, a_generator())
    keys = set(trained_state(a_tiny_model.network))
    assert {f"offset/{name}" for name in names if name.startswith("decoder")} <= keys
    assert not any(key.startswith("update/decoder") for key in keys)
    assert config.learning_rate == 1e-4


def test_published_learning_rates() -> None:
    rates = {name: MethodConfig(name).learning_rate for name in METHODS}
    for name in ("arena", "gates", "lora", "adalora", "sora"):
        assert rates[name] == 1e-3
    assert rates["arena+"] == 2e-3  # ours: docs/experiments.md
    for name in ("bitfit", "affine-ln", "adaptformer", "linear-probe"):
        assert rates[name] == 1e-2
    for name in ("full-ft", "decoder-ft", "scratch", "spatial-adapter"):
        assert rates[name] == 1e-4


def test_a_state_that_does_not_fit_leaves_the_base_network(a_tiny_model: BaseModel) -> None:
    base = outputs(a_tiny_model)
    for state, said in [
        ({"offset/gone.bias": torch.zeros(3)}, "tensor gone.bias"),
        ({"offset/encoder.0.norm1.bias": torch.zeros(99)}, r"shape \(99,\)"),
        ({"spatial-adapter/decoder.9/first.weight": torch.zeros(4, 4, 3, 3, 3)}, "decoder.9"),
        ({"surprise/x": torch.zeros(1)}, "surprise"),
    ]:
        with pytest.raises(AdapterError, match=said):
            load_trained_state(a_tiny_model.network, state)
        assert torch.equal(outputs(a_tiny_model), base)


def test_gates_take_no_penalty_and_unknown_names_are_listed() -> None:
    with pytest.raises(InputError, match="choose arena for a penalty"):
        MethodConfig("gates", penalty=0.1)
    with pytest.raises(InputError, match=r"'dora' is unknown; choose one of arena, .*zero-shot"):
        MethodConfig("dora")


OTHER_NETWORKS = {
    "swinvit": ("monai-swinvit-ssl", swinunetr.build_encoder, 12),
    "unet3d": ("suprem-unet", UNet3D, 4),
    "segresnet": ("suprem-segresnet", segresnet.build, 8),
    "segresnet-ds": ("vista3d", segresnet.build_deep, 8),
}


@pytest.mark.parametrize("kind", OTHER_NETWORKS)
def test_every_family_of_networks_has_parts_for_the_methods(kind: str) -> None:
    name, build_network, size = OTHER_NETWORKS[kind]
    entry = model_entry(name)
    network = build_network(size).eval()
    model = BaseModel(entry, network, family_of(entry), "", (64, 64, 64))
    base = outputs(model)
    tried = ["bitfit", "full-ft", "scratch"]
    if kind == "swinvit":
        for method, said in [("decoder-ft", "no decoder"), ("spatial-adapter", "no last block")]:
            with pytest.raises(InputError, match=said):
                refuse_undefined(model, MethodConfig(method))
        tried += ["adaptformer", "affine-ln"]
    else:
        tried += ["decoder-ft", "spatial-adapter"]
    for method in tried:
        adaptation = begin(model, MethodConfig(method), a_generator())
        assert adaptation.trainable_count > 0
        if method != "scratch":
            torch.testing.assert_close(outputs(model), base, rtol=1e-5, atol=1e-5)
        loss = sum(level.square().mean() for level in model.feature_maps(a_volume(model)))
        loss.backward()
        assert any(p.grad is not None and p.grad.any() for p in adaptation.parameters), method
        remove_trained(network)


def test_a_network_of_an_unknown_kind_says_what_can_be_used() -> None:
    with pytest.raises(InputError, match=r"of a Linear are not known; choose arena, .*lora"):
        parts_of(nn.Linear(1, 1))


# AdaLoRA (arXiv 2303.10512)


def test_adalora_starts_with_singular_vectors_at_random_and_values_at_zero() -> None:
    network = nn.Sequential(nn.Linear(400, 300))
    add_adapters(network, ["0"], LowRankConfig("adalora", 100), a_generator())
    update = lora.adapters(network)["0"]
    assert update.rank == 150  # half as many again as are to be left
    assert update.gate is not None
    assert not update.gate.any()
    for factor in (update.up, update.down):
        assert float(factor.detach().mean()) == pytest.approx(0, abs=5e-4)
        assert float(factor.detach().std()) == pytest.approx(0.02, rel=0.02)


def test_the_orthogonality_regulariser_by_hand() -> None:
    orthonormal = LowRankUpdate(torch.eye(2, 3), torch.ones(2), torch.eye(4, 2))
    assert float(orthogonality([orthonormal]).detach()) == 0
    # P's columns (2, 0) and (1, 1): P^T P - I = [[3, 2], [2, 1]], squares 9 + 4 + 4 + 1 = 18
    skewed = LowRankUpdate(torch.eye(2, 2), torch.ones(2), torch.tensor([[2.0, 1.0], [0.0, 1.0]]))
    assert float(orthogonality([orthonormal, skewed]).detach()) == 18


def test_the_importance_is_smoothed_sensitivity_times_uncertainty() -> None:
    importance = Importance(beta=0.5)
    importance.update(torch.tensor([2.0]), torch.tensor([-3.0]))
    # I = 6, mean 3, |6 - 3| = 3, mean 1.5
    assert float(importance.score) == 3 * 1.5
    importance.update(torch.tensor([1.0]), torch.tensor([1.0]))
    # I = 1, mean 2, |1 - 2| = 1, mean 1.25
    assert float(importance.score) == 2 * 1.25
    assert Importance().beta == 0.85


def test_the_budget_falls_along_a_cube() -> None:
    schedule = BudgetSchedule(steps=100, initial=96, target=32, warm_up=0.1, fixed=0.5)
    assert [schedule.at(step) for step in (0, 9, 10)] == [96, 96, 96]
    assert schedule.at(30) == 32 + 64 * 0.5**3
    assert [schedule.at(step) for step in (50, 99)] == [32, 32]
    assert not schedule.is_fixed(49)
    assert schedule.is_fixed(50)
    falling = [schedule.at(step) for step in range(100)]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("given", [{"target": 0}, {"target": 97}, {"warm_up": 0.6}, {"steps": 0}])
def test_a_budget_that_makes_no_sense_is_refused(given: dict[str, int]) -> None:
    with pytest.raises(InputError):
        BudgetSchedule(**{"steps": 100, "initial": 96, "target": 32, **given})


def two_layers() -> tuple[nn.Sequential, LowRankConfig]:
    config = LowRankConfig("adalora", 2, fused_pattern="")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    add_adapters(network, ["0", "1"], config, a_generator())
    return network, config


def test_a_triplet_is_as_important_as_its_value_and_the_means_of_its_vectors() -> None:
    network, _ = two_layers()
    optimizer = torch.optim.SGD(lora.adapter_parameters(network), lr=0.0)
    rule = BudgetAllocation(network, optimizer, BudgetSchedule(100, 6, 4))
    update = lora.adapters(network)["0"]
    assert update.gate is not None
    for parameter in lora.adapter_parameters(network):
        parameter.grad = torch.ones_like(parameter)
    with torch.no_grad():
        update.gate.fill_(2.0)
    optimizer.step()

    def score(tensor: torch.Tensor) -> torch.Tensor:  # one step: mean .15 I, deviation .15 * .85 I
        return 0.15 * tensor.detach().abs() * 0.15 * 0.85 * tensor.detach().abs()

    expected = score(update.gate) + score(update.up).mean(0) + score(update.down).mean(1)
    torch.testing.assert_close(rule.scores()[0], expected)


def test_the_least_important_values_of_all_layers_are_zeroed_and_may_return_until_fixed() -> None:
    network, _ = two_layers()
    values = list(gates(network).values())
    optimizer = torch.optim.SGD(lora.adapter_parameters(network), lr=0.0)
    rule = BudgetAllocation(network, optimizer, BudgetSchedule(10, 6, 2, warm_up=0.0, fixed=0.5))

    def step(first: list[float], second: list[float]) -> list[list[bool]]:
        for parameter in lora.adapter_parameters(network):
            parameter.grad = torch.zeros_like(parameter)
        for gate, numbers in zip(values, (first, second), strict=True):
            gate.grad = torch.tensor(numbers, dtype=torch.float32)
            with torch.no_grad():
                gate.fill_(1.0)
        optimizer.step()
        rule()
        return [(gate != 0).tolist() for gate in values]

    for _ in range(4):
        step([3, 2, 1], [0.5, 0.4, 0.3])
    # fifth step: the budget is two, and both of the first layer's are ahead
    assert step([3, 2, 1], [0.5, 0.4, 0.3]) == [[True, True, False], [False] * 3]
    # fixed: however important the others get
    assert step([0, 0, 0], [99, 99, 99]) == [[True, True, False], [False] * 3]


def test_adalora_ends_at_its_budget() -> None:
    network, config = two_layers()
    optimizer = build_optimizer(network, config, learning_rate=1e-2, annealing=Annealing(20))
    inputs = torch.randn(32, 6, generator=a_generator(1))
    for _ in range(20):
        optimizer.zero_grad()
        (network(inputs) - 1).square().mean().backward()
        optimizer.step()
    assert sum(optimizer.effective_ranks().values()) == 4
    with pytest.raises(InputError, match="adalora was given no annealing"):
        build_optimizer(two_layers()[0], config, learning_rate=1e-2)


# SoRA (arXiv 2311.11696)


def test_soras_gates_are_normal_and_shrink_by_a_constant() -> None:
    network = nn.Sequential(nn.Linear(2000, 2000))
    add_adapters(network, ["0"], LowRankConfig("sora", 1500), a_generator())
    (gate,) = gates(network).values()
    assert float(gate.detach().std()) == pytest.approx(1, rel=0.05)
    small = nn.Parameter(torch.tensor([1.0, -0.2, 0.05, 0.0]))
    ConstantShrinkage([small], 0.1)()
    torch.testing.assert_close(small.detach(), torch.tensor([0.9, -0.1, 0.0, 0.0]))
    assert LowRankConfig("sora").effective_penalty == 3e-4


def test_soras_threshold_does_not_follow_the_learning_rate() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    config = LowRankConfig("sora", 2, penalty=0.1)
    add_adapters(network, ["0"], config, a_generator())
    before = gates(network)["0"].detach().clone()
    optimizer = build_optimizer(network, config, learning_rate=1e-9)
    network(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    moved = (before.abs() - gates(network)["0"].detach().abs()).clamp_max(before.abs())
    torch.testing.assert_close(moved, torch.full((2,), 0.1).minimum(before.abs()))


def test_soras_loss_term_is_ten_times_the_mean_gate() -> None:
    given = [torch.tensor([1.0, -3.0]), torch.tensor([0.0, 2.0])]
    assert float(mean_l1(given)) == 10 * 6 / 4


# AdaptFormer (arXiv 2205.13535) and the spatial adapter (FSEFT)


class _Mlp(nn.Module):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.square()


def test_adaptformer_adds_a_scaled_bottleneck_of_the_mlps_input() -> None:
    network = nn.Sequential(_Mlp(), nn.Linear(2, 2))
    branch = Bottleneck(2, a_generator(), bottleneck=1)
    attach(network, "0", branch)
    inputs = torch.tensor([[3.0, 1.0], [-3.0, 1.0]])
    assert torch.equal(network[0](inputs), inputs.square())  # up starts at zero
    with torch.no_grad():
        branch.down.weight.copy_(torch.tensor([[2.0, -1.0]]))
        branch.down.bias.fill_(1.0)
        branch.up.weight.copy_(torch.tensor([[1.0], [10.0]]))
        branch.up.bias.copy_(torch.tensor([0.0, 5.0]))
    # down: 2 * 3 - 1 + 1 = 6 and -6 - 1 + 1 = -6, ReLU 6 and 0; up (6, 65) and (0, 5); times 0.1
    expected = torch.tensor([[9.6, 7.5], [9.0, 1.5]])
    torch.testing.assert_close(network[0](inputs), expected)
    remove_branches(network)
    assert torch.equal(network[0](inputs), inputs.square())


def test_adaptformer_goes_beside_every_mlp_with_what_its_norm_gives(
    a_small_swin: BaseModel,
) -> None:
    begin(a_small_swin, MethodConfig("adaptformer"), a_generator())
    block = a_small_swin.network.get_submodule("swinViT.layers1.0.blocks.0")
    branch = branches(a_small_swin.network)["swinViT.layers1.0.blocks.0.mlp"]
    nn.init.normal_(branch.up.weight)
    hidden = torch.randn(1, 7, 7, 7, 12, generator=a_generator(1))
    normed = block.norm2(hidden)
    bare = block.mlp.linear2(nn.functional.gelu(block.mlp.linear1(normed)))
    added = 0.1 * branch.up(torch.relu(branch.down(normed)))
    torch.testing.assert_close(block.forward_part2(hidden), bare + added)
    remove_trained(a_small_swin.network)


def test_the_spatial_adapter_is_a_residual_pair_of_convolutions() -> None:
    network = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    branch = SpatialAdapter(2, a_generator())
    attach(network, "0", branch)
    volume = torch.randn(1, 2, 4, 4, 4, generator=a_generator(1))
    assert torch.equal(network[0](volume), volume)
    nn.init.normal_(branch.second.weight)
    conv = nn.functional.conv3d
    inner = torch.relu(conv(volume, branch.first.weight, padding=1))
    expected = volume + conv(inner, branch.second.weight, padding=1)
    torch.testing.assert_close(network[0](volume), expected)


# From scratch


def test_scratch_draws_every_weight_anew_by_the_seed(a_tiny_model: BaseModel) -> None:
    base = dict(a_tiny_model.network.state_dict())
    states = []
    for seed in (1, 1, 2):
        begin(a_tiny_model, MethodConfig("scratch"), a_generator(seed))
        states.append(trained_state(a_tiny_model.network))
        remove_trained(a_tiny_model.network)
    first, same, other = states
    convolutions = [key for key in first if key.endswith("conv.weight")]
    assert len(convolutions) > 10
    for key in convolutions:
        assert torch.equal(first[key], same[key])
        assert not torch.equal(first[key], other[key])
        assert not torch.equal(first[key], base[key.removeprefix("value/")])


def test_batch_statistics_of_a_new_network_are_those_of_the_scan(
    a_tiny_model: BaseModel,
) -> None:
    network = a_tiny_model.network
    norm = network.get_submodule("encoder.0.norm1")
    own = norm.running_var.clone()
    begin(a_tiny_model, MethodConfig("scratch"), a_generator())
    assert torch.equal(norm.running_var, torch.ones_like(own))
    scan = 100 * torch.randn(32, 32, 32, generator=a_generator(1))
    seen: list[torch.Tensor] = []
    handle = norm.register_forward_hook(lambda module, given, result: seen.append(result.clone()))
    calibrate_(a_tiny_model, scan)
    outputs_after = a_tiny_model.feature_maps(scan[None])
    handle.remove()
    assert not norm.training
    assert torch.isfinite(outputs_after[-1]).all()
    after = seen[-1].detach().float()
    assert float(after.mean()) == pytest.approx(0, abs=0.05)
    assert float(after.std()) == pytest.approx(1, abs=0.1)
    remove_trained(network)
    assert torch.equal(norm.running_var, own)


# Heads


def test_the_linear_probe_of_one_organ_is_a_sigmoid() -> None:
    head = LinearHead((5, 3), ((0,),))
    features = torch.randn(20, 8, generator=a_generator())
    head.standardise_by(features)
    own = features[:, 5:]
    logit = ((own - own.mean(0)) / own.std(0)) @ head.output.weight.T + head.output.bias
    torch.testing.assert_close(head.probabilities(head(features))[:, 1:], torch.sigmoid(logit))
    maps = [features[:, :5].T.reshape(1, 5, 20, 1, 1), own.T.reshape(1, 3, 20, 1, 1)]
    on_maps = head.on_maps(maps).reshape(2, -1).T
    torch.testing.assert_close(on_maps, head.probabilities(head(features)))


def test_the_linear_probe_sees_maps_as_it_sees_their_rows() -> None:
    head = LinearHead((5, 3), ((0, 2), (1,)))
    features = torch.randn(24, 8, generator=a_generator()) * 4 + 100
    head.standardise_by(features)
    maps = [features[:, :5].T.reshape(1, 5, 2, 3, 4), features[:, 5:].T.reshape(1, 3, 2, 3, 4)]
    rows = head.on_maps(maps).reshape(5, -1).T
    torch.testing.assert_close(rows, head.probabilities(head(features)), rtol=1e-4, atol=1e-5)


def test_the_linear_probe_takes_part_in_the_partial_loss() -> None:
    head = LinearHead((4,), ((0, 1), (2,)))
    features = torch.randn(12, 4, generator=a_generator())
    targets = torch.tensor([[0, 1], [1, 0], [2, -1]]).repeat(4, 1)
    known = torch.tensor([True, False, True]).repeat(12, 1)
    organ_loss(head, head(features), targets, known).backward()
    assert head.output.weight.grad is not None
    assert head.output.weight.grad.abs().sum() > 0


def test_classes_that_are_not_asked_for_are_background() -> None:
    classes = TrainedClasses(
        ("background", "Liver", "left kidney", "spleen"), torch.eye(4), torch.zeros(4)
    )
    assert (classes.row("kidney_left"), classes.row("liver"), classes.row("x")) == (2, 1, None)
    assert classes.row("background") is None
    head = ClassHead((4,), ((0,), (1,)), classes, [2, 1])
    features = torch.randn(6, 4, generator=a_generator())
    p = features.softmax(1)
    expected = torch.stack([1 - p[:, 2], p[:, 2], 1 - p[:, 1], p[:, 1]], dim=1)
    torch.testing.assert_close(head.probabilities(head(features)), expected)
    assert not list(head.parameters())
    sigmoid = TrainedClasses(("liver", "spleen"), torch.eye(2), torch.zeros(2))
    own = ClassHead((2,), ((0,),), sigmoid, [1])
    one = own.probabilities(own(features[:, :2]))[:, 1]
    torch.testing.assert_close(one, torch.sigmoid(features[:, 1]))
