"""The l1 step by hand, both gate rules on a regression whose true rank is known, the early stop."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

import pytest
import torch  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.lora import LowRankConfig, adapter_state, adapters, add_adapters, gates
from reglora_core.proximal import (
    Annealing,
    EarlyStop,
    ProximalOptimizer,
    SpectralPruning,
    build_optimizer,
    soft_threshold_,
)
from teachers import TRUE_RANK, Regression, few_noisy_shots

INITIAL_RANKS = (8, 32, 64)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More threads only slow down matrices as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def a_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_small_network(config: LowRankConfig) -> nn.Sequential:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(5, 4), nn.Conv1d(4, 3, 1))
    add_adapters(network, ["*"], config, a_generator())
    with torch.no_grad():
        for update in adapters(network).values():
            update.up.normal_(generator=a_generator(2))
    return network


def set_gate(network: nn.Module, *values: float) -> nn.Parameter:
    gate = gates(network)["0"]
    with torch.no_grad():
        gate.copy_(torch.tensor(values))
    return gate


def test_the_proximal_step_shrinks_towards_zero_and_stops_there() -> None:
    shrunk = soft_threshold_(torch.tensor([1.0, -1.0, 0.3, -0.2, 0.25, 0.0]), 0.25)
    torch.testing.assert_close(shrunk, torch.tensor([0.75, -0.75, 0.05, 0.0, 0.0, 0.0]))
    assert shrunk.count_nonzero() == 3


def test_a_threshold_of_zero_changes_nothing() -> None:
    gate = torch.tensor([1.0, -0.5, 0.0])
    assert torch.equal(soft_threshold_(gate.clone(), 0.0), gate)


def test_one_published_step_is_an_adamw_step_and_then_the_shrinkage() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False))
    config = LowRankConfig("arena", 2, penalty=0.5)
    add_adapters(network, ["0"], config, a_generator())
    gate = set_gate(network, 0.8, 0.0004)
    optimizer = build_optimizer(network, config, learning_rate=1e-3)
    gate.grad = torch.tensor([3.0, 0.0])
    optimizer.step()
    # Adam's first step is eta * sign(gradient): 0.8 - 0.001; the threshold is 0.5 * 0.001
    torch.testing.assert_close(gate.detach(), torch.tensor([0.7985, 0.0]), rtol=0, atol=1e-7)
    assert optimizer.effective_ranks() == {"0": 1}


def test_the_shrinkage_follows_the_current_learning_rate() -> None:
    network = a_small_network(LowRankConfig("arena", 2, penalty=0.5))
    gate = set_gate(network, 0.5, -0.5)
    optimizer = build_optimizer(network, LowRankConfig("arena", 2, penalty=0.5), learning_rate=1e-3)
    for group in optimizer.optimizer.param_groups:
        group["lr"] = 0.2
    optimizer.step()  # without gradients AdamW leaves everything; the threshold is 0.5 * 0.2
    torch.testing.assert_close(gate.detach(), torch.tensor([0.4, -0.4]))


def test_a_zeroed_gate_of_arena_gets_gradients_and_returns() -> None:
    config = LowRankConfig("arena", 2, penalty=0.5)
    network = a_small_network(config)
    gate = set_gate(network, 0.0, 1.0)
    optimizer = build_optimizer(network, config, learning_rate=1e-2)
    network[0](torch.ones(3, 5)).sum().backward()
    optimizer.step()
    # |first Adam step| - threshold = 0.01 - 0.005
    assert abs(gate[0].item()) == pytest.approx(0.005, rel=1e-3)


def test_weight_decay_is_zero_and_the_head_may_have_its_own_rate() -> None:
    network = a_small_network(LowRankConfig("arena", 2))
    head = nn.Linear(3, 2)
    optimizer = build_optimizer(
        network,
        LowRankConfig("arena", 2),
        learning_rate=1e-3,
        head_parameters=head.parameters(),
        head_learning_rate=5e-3,
    ).optimizer
    groups = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert groups == {"factors": (1e-3, 0), "gates": (1e-3, 0), "head": (5e-3, 0)}


def test_lora_has_neither_gates_nor_a_rule() -> None:
    config = LowRankConfig("lora", 2)
    optimizer = build_optimizer(a_small_network(config), config, learning_rate=1e-3)
    assert [g["name"] for g in optimizer.optimizer.param_groups] == ["factors"]
    assert optimizer.rule is None


def test_arena_plus_without_an_annealing_is_refused() -> None:
    config = LowRankConfig("arena+", 2)
    with pytest.raises(InputError, match="no annealing"):
        build_optimizer(a_small_network(config), config, learning_rate=1e-3)


@pytest.mark.parametrize("parts", [{"warm_up": -0.1}, {"ramp": 0.9}, {"steps": 0}])
def test_an_annealing_that_is_not_part_of_a_training_is_refused(parts: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Annealing(**{"steps": 100} | parts)


def a_normalising_optimizer(network: nn.Sequential, refactor_every: int) -> ProximalOptimizer:
    """With learning rate 0 only the normalisation acts: no step, and a threshold of 0."""
    annealing = Annealing(100, warm_up=0.0, refactor_every=refactor_every)
    return build_optimizer(
        network, LowRankConfig("arena+", 3), learning_rate=0.0, annealing=annealing
    )


def test_gates_become_singular_values_and_the_weights_stay() -> None:
    network = a_small_network(LowRankConfig("arena+", 3)).double()
    update = adapters(network)["0"]
    base = network.get_parameter("0.parametrizations.weight.original").detach()
    change = (update.scaled_up() @ update.down).detach()
    a_normalising_optimizer(network, 1).step()
    torch.testing.assert_close(network[0].weight.detach(), base + change, rtol=1e-12, atol=1e-12)
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(update.down @ update.down.T, identity, rtol=0, atol=1e-12)
    unit = update.up[:, 0].norm()
    torch.testing.assert_close(update.up.T @ update.up, unit**2 * identity, rtol=0, atol=1e-12)
    singular_values = torch.linalg.svdvals(change)[:3]
    torch.testing.assert_close(unit * gates(network)["0"].detach(), singular_values)


def test_the_largest_gate_of_all_layers_is_one() -> None:
    network = a_small_network(LowRankConfig("arena+", 3))
    a_normalising_optimizer(network, 1).step()
    largest = max(gate.max().item() for gate in gates(network).values())
    assert largest == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("refactor_every", [1, 1000])
def test_normalising_does_not_change_the_function(refactor_every: int) -> None:
    network = a_small_network(LowRankConfig("arena+", 3)).double()
    optimizer = a_normalising_optimizer(network, refactor_every)
    optimizer.step()
    with torch.no_grad():
        for update in adapters(network).values():  # as training would leave them: not normalised
            update.down.mul_(torch.tensor([[1.7], [0.2], [1.0]]))
            update.up.add_(0.3)
    before = [layer.weight.detach() for layer in network]
    optimizer.step()
    for layer, weight in zip(network, before, strict=True):
        torch.testing.assert_close(layer.weight.detach(), weight, rtol=1e-12, atol=1e-12)
    norms = adapters(network)["0"].down.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=1e-12)


def test_pruning_waits_until_something_has_been_learnt() -> None:
    network = nn.Sequential(nn.Linear(5, 4))
    add_adapters(network, ["0"], LowRankConfig("arena+", 3), a_generator())
    optimizer = a_normalising_optimizer(network, 1)
    optimizer.step()  # B is still zero
    assert isinstance(optimizer.rule, SpectralPruning)
    assert optimizer.rule.phase == "warm-up"
    assert optimizer.effective_ranks() == {"0": 3}


@pytest.mark.parametrize("rank", INITIAL_RANKS)
@pytest.mark.parametrize(("seed", "true_rank"), [(0, 1), (0, 3), (1, 3), (2, 3), (0, 6)])
def test_arena_plus_finds_the_true_rank_from_any_initial_rank(
    rank: int, seed: int, true_rank: int
) -> None:
    regression = Regression.of_seed(seed, true_rank=true_rank)
    optimizer = regression.fit(LowRankConfig("arena+", rank), 600, 2e-3)
    assert optimizer.effective_ranks() == {"0": true_rank}
    assert regression.error() < 0.035


@pytest.mark.parametrize("rank", [16, 32, 64])
def test_arena_plus_finds_a_rank_above_eight(rank: int) -> None:
    optimizer = Regression.of_seed(0, true_rank=12).fit(LowRankConfig("arena+", rank), 600, 2e-3)
    assert optimizer.effective_ranks() == {"0": 12}


def test_arena_plus_comes_to_the_same_from_any_initial_rank_where_no_rank_is_true() -> None:
    def fits(rank: int, penalty: float | None = None) -> tuple[int, float]:
        config = LowRankConfig("arena+", rank, penalty)
        ranks, losses = zip(*(few_noisy_shots(config, seed) for seed in range(4)), strict=True)
        return sum(ranks), fmean(losses)

    ranks, losses = zip(*(fits(rank) for rank in INITIAL_RANKS), strict=True)
    assert max(ranks) <= 1.2 * min(ranks)
    assert 4 * 2 <= min(ranks) <= 4 * 8  # at least half of the 16 columns of rank 8 are gone
    assert max(losses) < fits(8, penalty=0.0)[1] + 0.02


@pytest.mark.parametrize("rank", INITIAL_RANKS)
def test_arena_as_published_prunes_next_to_nothing(rank: int) -> None:
    optimizer = Regression.of_seed(0).fit(LowRankConfig("arena", rank))
    assert optimizer.effective_ranks()["0"] >= 0.9 * rank  # the true rank is 3


def test_arena_prunes_more_with_a_stronger_penalty_but_stays_above_the_true_rank() -> None:
    optimizer = Regression.of_seed(0).fit(LowRankConfig("arena", 32, penalty=0.9))
    assert TRUE_RANK < optimizer.effective_ranks()["0"] < 28


def test_arena_without_penalty_keeps_every_gate() -> None:
    optimizer = Regression.of_seed(0).fit(LowRankConfig("arena", 16, penalty=0.0), steps=100)
    assert optimizer.effective_ranks() == {"0": 16}


@pytest.mark.parametrize("method", ["lora", "arena", "arena+"])
def test_the_same_seed_gives_the_same_result_to_the_bit(method: str) -> None:
    states = []
    for _ in range(2):
        regression = Regression.of_seed(4)
        regression.fit(LowRankConfig(method, 8), steps=60, learning_rate=1e-2)
        states.append(adapter_state(regression.network))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_training_stops_when_the_loss_has_stopped_falling() -> None:
    stop = EarlyStop()
    assert [stop.update(1.0) for _ in range(31)] == [False] * 30 + [True]


def test_training_goes_on_while_the_averaged_loss_falls_by_a_hundredth() -> None:
    # a fall of d an epoch: the average falls by 19 d in the window, against 1 % of about 1
    falling, flat = EarlyStop(), EarlyStop()
    assert not any(falling.update(1 - 0.0006 * epoch) for epoch in range(60))
    assert [flat.update(1 - 0.0005 * epoch) for epoch in range(31)][-1]


def test_one_low_loss_does_not_stop_the_training() -> None:
    # averages: epochs 3-12 are 1.0, epochs 22-31 are (9 * 1.0 + 0.8) / 10 = 0.98
    stop = EarlyStop()
    for _ in range(30):
        assert not stop.update(1.0)
    assert not stop.update(0.8)
