"""One fit of a study: the plan, the head, the training, the score, the record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import study_data
import torch  # noqa: TID253

from reglora_core import lora
from reglora_core.errors import InputError
from reglora_core.methods.adaptation import MethodConfig, begin
from reglora_core.methods.catalogue import LOW_RANK, METHODS, method_entry
from reglora_core.methods.trained import is_trained, remove_trained
from reglora_core.models import swinunetr
from reglora_core.models.base import BaseModel
from reglora_core.models.checkpoints import read_weights
from reglora_core.models.registry import model_names
from reglora_core.protocol.dataset import read_dataset
from reglora_core.protocol.inventory import Inventory
from reglora_core.study.base import check_base, pretrain_base
from reglora_core.study.cases import CaseStore, largest_component
from reglora_core.study.config import (
    FitConfig,
    MethodPlan,
    StudyConfig,
    read_study,
    study_from_dict,
)
from reglora_core.study.fit import Training, fit, new_head, organ_head, soft_dice_loss
from reglora_core.study.plan import plan_fits
from reglora_core.study.records import finished, fit_name, read_record, write_record
from reglora_core.study.score import dice, score
from reglora_core.study.work import Bench, run_fit

STUDIES = Path(__file__).parents[1] / "benchmarks" / "study"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    return study_data.inventory_of(study_data.write_bodies(tmp_path_factory.mktemp("bodies")))


def a_study(**changes: Any) -> StudyConfig:
    return study_from_dict({**study_data.STUDY, **changes}, Path("study.json"))


@pytest.fixture
def bench(inventory: Inventory, small_weights: Path) -> Bench:
    return Bench.of(a_study(), inventory, str(small_weights), CPU)


def test_a_study_is_methods_times_ranks_organs_shots_and_draws(inventory: Inventory) -> None:
    methods = [{"name": "lora", "ranks": [2, 4]}, "zero-shot"]
    fits, skips = plan_fits(a_study(methods=methods), inventory)
    listed = [(f.method.name, f.rank, f.organ, f.k, f.fold, f.seed) for f in fits]
    assert listed == [
        ("lora", 2, "liver", 1, 1, 0),
        ("lora", 2, "liver", 1, 2, 1),
        ("lora", 4, "liver", 1, 1, 0),
        ("lora", 4, "liver", 1, 2, 1),
        ("zero-shot", None, "liver", 1, 1, 0),
        ("zero-shot", None, "liver", 1, 2, 1),
        ("lora", 2, "spleen", 1, 1, 0),
        ("lora", 2, "spleen", 1, 2, 1),
        ("lora", 4, "spleen", 1, 1, 0),
        ("lora", 4, "spleen", 1, 2, 1),
    ]
    assert [str(skip) for skip in skips] == [
        "skipped: zero-shot of spleen: the base network never saw it"
    ]
    assert all(f.scored == ("pt_6",) and f.role == "validation" for f in fits)
    assert {f.is_novel for f in fits if f.organ == "spleen"} == {True}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"organs": ["kidney"]}, "organ 'kidney' is unknown"),
        ({"shots": [5]}, "too few patients with role shots: liver k = 5: 3, spleen k = 5: 3"),
        ({"methods": ["lora"]}, "method lora needs ranks"),
        ({"methods": [{"name": "bitfit", "ranks": [4]}]}, "method bitfit has no rank"),
        ({"methods": ["head"]}, "method head is no method of the papers"),
        ({"methods": ["mask-decoder"]}, "has SAM's mask decoder as its head; use linear-probe"),
        (
            {"methods": [{"name": "arena-mask-decoder", "ranks": [8]}]},
            "has SAM's mask decoder as its head; use arena",
        ),
        ({"methods": ["prompt"]}, "'prompt' is unknown"),
    ],
)
def test_a_study_that_cannot_be_is_refused(
    inventory: Inventory, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plan_fits(a_study(**changes), inventory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": []}, "methods is empty"),
        ({"draws": [1, 2]}, "draws is"),
        ({"role": "shots"}, "role is 'shots'"),
        ({"pretraining": {}}, "neither base nor pretraining"),
        ({"fit": {"steps": -1}}, "steps is -1"),
        ({"fit": {"epochs": 0}}, "epochs is 0"),
        ({"fit": {"positive": 1.5}}, "positive is 1.5"),
        ({"fit": {"step": 1}}, "unknown entry 'step'"),
        ({"metods": []}, "unknown entry 'metods'"),
        ({"shots": 5}, "shots is 5"),
    ],
)
def test_a_study_file_with_a_wrong_entry_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        a_study(**changes)


def test_a_study_file_is_read_with_its_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "bodies.json").write_text("{}")
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"format": 1, **study_data.STUDY}))
    config = read_study(path)
    assert config.dataset == str(tmp_path / "bodies.json")
    assert config.methods[0].ranks == (4,)
    path.write_text(json.dumps({"format": 2, **study_data.STUDY}))
    with pytest.raises(InputError, match="not a study of format 1"):
        read_study(path)


def test_the_dice_loss_is_one_for_nothing_found_and_zero_for_all() -> None:
    target = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert float(soft_dice_loss(target, target)) == pytest.approx(0)
    assert float(soft_dice_loss(1 - target, target)) == pytest.approx(1, abs=1e-4)
    half = torch.full_like(target, 0.5)  # 2 * 1 / (2 + 2)
    assert float(soft_dice_loss(half, target)) == pytest.approx(0.5, abs=1e-4)


def test_as_published_a_fit_has_200_epochs_of_k_steps() -> None:
    assert [FitConfig().steps_for(k) for k in (1, 5, 10)] == [200, 1000, 2000]
    assert FitConfig(steps=120).steps_for(10) == 120


def test_dice_has_one_in_its_denominator() -> None:
    prediction = torch.tensor([True, True, False, False])
    reference = torch.tensor([True, False, True, False])
    assert dice(prediction, reference) == pytest.approx(2 * 1 / (2 + 2 + 1))


def test_the_largest_component_of_a_reference_is_kept() -> None:
    mask = torch.zeros(3, 3, 9, dtype=torch.bool)
    mask[1, 1, 0:3] = True
    mask[1, 1, 5] = True
    assert largest_component(mask).nonzero()[:, 2].tolist() == [0, 1, 2]


def test_the_head_of_a_known_organ_is_its_class_against_the_background(
    small_model: BaseModel,
) -> None:
    head = organ_head(small_model, "liver")
    assert head is not None
    own = small_model.network.classifier
    features = torch.randn(5, sum(small_model.widths))
    fine = features[:, -small_model.widths[-1] :]
    logits = fine @ own.weight.T + own.bias
    given = head.probabilities(head(features))[:, 1]
    torch.testing.assert_close(given, torch.sigmoid(logits[:, 1] - logits[:, 0]))


def test_a_new_head_starts_at_fishers_discriminant(small_model: BaseModel) -> None:
    assert organ_head(small_model, "spleen") is None
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(32, 32, 32, dtype=torch.bool)
    mask[8:16, 8:16, 8:16] = True  # 1 of 64
    hounsfield = 40 * torch.randn(mask.shape, generator=generator) + 60 * mask
    head = new_head(small_model, (hounsfield, mask))
    with torch.no_grad():
        maps = small_model.feature_maps(hounsfield[None])
        probability = head.on_maps(maps)[1]
    rows = (maps[-1][0].flatten(1).T.float() - head.mean) / head.deviation
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1).double()
    regression = torch.linalg.lstsq(rows, mask.flatten().double()[:, None]).solution[:-1, 0]
    same = torch.cosine_similarity(head.output.weight[0].detach().double(), regression, dim=0)
    assert float(same) > 0.99  # Fisher's direction is that of a regression on the mask
    assert float(probability[mask].median()) > 3 * float(probability[~mask].median())


@pytest.mark.parametrize(("inside", "share"), [(False, 1e-4), (True, 0.5)])
def test_a_new_head_without_an_organ_or_anything_else_is_even(
    small_model: BaseModel, inside: bool, share: float
) -> None:
    mask = torch.full((32, 32, 32), inside)
    head = new_head(small_model, (torch.randn(mask.shape), mask))
    with torch.no_grad():
        probability = head.on_maps(small_model.feature_maps(torch.randn(1, 32, 32, 32)))[1]
    torch.testing.assert_close(probability, torch.full_like(probability, share))


def test_a_fit_learns_its_shots(inventory: Inventory, small_model: BaseModel) -> None:
    store = CaseStore(inventory, 4.5)
    shot = store.case("pt_3", "liver", "fit")
    config = FitConfig(steps=18, crop=32, crops=1, log_every=6)
    method = MethodConfig("full-ft")
    training = Training("liver", config, learning_rate=5e-3)
    fitted = fit(small_model, [shot], method, training)
    losses = [point["loss"] for point in fitted.curve]
    assert [point["step"] for point in fitted.curve] == [6, 12, 18]
    assert losses[-1] < 0.6 * losses[0]
    assert score(small_model, fitted.head, [shot])["pt_3"] > 0.6


def test_the_same_seed_gives_the_same_fit_and_leaves_the_base_network(bench: Bench) -> None:
    before = {key: value.clone() for key, value in bench.model.network.state_dict().items()}
    plan = plan_fits(bench.config, bench.inventory)[0][0]
    first, second = run_fit(bench, plan), run_fit(bench, plan)
    assert first["curve"] == second["curve"]
    assert first["case_dice"] == second["case_dice"]
    other = run_fit(bench, replace(plan, seed=7))
    assert other["curve"] != first["curve"]
    assert not is_trained(bench.model.network)
    after = bench.model.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_a_record_has_what_was_agreed(bench: Bench) -> None:
    plan = plan_fits(bench.config, bench.inventory)[0][0]
    record = run_fit(bench, plan)
    assert list(record) == [
        "format", "dataset", "method", "initial_rank", "organ", "is_novel", "k", "fold", "seed",
        "role", "dice", "case_dice", "trainable_parameters", "surviving_parameters",
        "initial_layer_ranks", "layer_ranks", "seconds", "curve", "settings",
    ]  # fmt: skip
    assert record["initial_layer_ranks"] == dict.fromkeys(record["layer_ranks"], 4)
    assert record["settings"]["penalty"] == 0.5
    assert record["settings"]["learning_rate"] == 1e-3
    assert len(record["settings"]["shots"]) == 1
    # arena: (outputs + inputs + 1) * 4 of every adapted layer
    layers = {
        name: layer
        for name, layer in bench.model.network.named_modules()
        if bench.model.is_adapted_layer(name, layer)
    }
    sizes = [layer.weight.shape[0] + layer.weight[0].numel() for layer in layers.values()]
    assert record["trainable_parameters"] == sum(4 * (size + 1) for size in sizes)
    assert json.loads(json.dumps(record)) == record


# of the methods that studies take, those that the embedded network has a place for
ON_TINY = [
    name
    for name in METHODS
    if name not in ("head", "adaptformer", "affine-ln") and method_entry(name).head != "masks"
]


@pytest.mark.parametrize("name", ON_TINY)
def test_every_method_is_fitted_and_taken_away_again(bench: Bench, name: str) -> None:
    plan = plan_fits(bench.config, bench.inventory)[0][0]
    is_low_rank = name in ("arena", "arena+", "gates", "lora", "adalora", "sora")
    plan = replace(plan, method=replace(plan.method, name=name), rank=4 if is_low_rank else None)
    bench.config = replace(bench.config, fit=replace(bench.config.fit, steps=2))
    record = run_fit(bench, plan)
    assert (record["layer_ranks"] is not None) == is_low_rank
    assert (record["trainable_parameters"] == 0) == (name == "zero-shot")
    assert not is_trained(bench.model.network)


@pytest.fixture(scope="module")
def a_swin_bench(inventory: Inventory, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The same study on a small SwinUNETR, at 9 mm."""
    path = tmp_path_factory.mktemp("swin") / "swin.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(swinunetr.build(12).state_dict(), path)
    fit_config = {**study_data.STUDY["fit"], "steps": 1, "crop": 64}
    config = a_study(adapter_targets="", spacing_mm=9.0, fit=fit_config)
    return Bench.of(config, inventory, str(path), CPU)


@pytest.mark.parametrize(
    ("name", "layer"), [("affine-ln", ""), ("adaptformer", ""), ("arena", "attn.qkv")]
)
def test_a_swinunetr_goes_the_same_way(a_swin_bench: Bench, name: str, layer: str) -> None:
    plan = plan_fits(a_swin_bench.config, a_swin_bench.inventory)[0][0]
    plan = replace(plan, method=replace(plan.method, name=name), rank=2 if layer else None)
    record = run_fit(a_swin_bench, plan)
    assert record["trainable_parameters"] > 0
    assert 0 <= record["dice"] <= 1
    assert all(place.endswith(layer) for place in record["layer_ranks"] or {})
    assert set((record["initial_layer_ranks"] or {"": 6}).values()) == {6}  # 3 * rank
    assert not is_trained(a_swin_bench.model.network)


def test_for_an_organ_that_the_network_never_saw_the_decoder_is_trained(bench: Bench) -> None:
    fits, _ = plan_fits(bench.config, bench.inventory)
    plan = next(one for one in fits if one.is_novel)
    record = run_fit(bench, plan)
    assert record["settings"]["trains_decoder"] is True
    assert record["settings"]["learning_rate"] == 1e-4
    assert all(name.startswith("encoder.") for name in record["layer_ranks"])


@pytest.mark.parametrize(("name", "rate"), [("lora", 1e-4), ("arena+", 2e-3)])
def test_beside_a_decoder_only_arena_plus_keeps_its_rate(
    bench: Bench, name: str, rate: float
) -> None:
    plans, _ = plan_fits(bench.config, bench.inventory)
    novel, base = (next(p for p in plans if p.is_novel is which) for which in (True, False))
    novel = replace(novel, method=MethodPlan(name, (2,)), rank=2)
    base = replace(base, method=novel.method, rank=2)
    assert (bench.learning_rate(novel), bench.decoder_learning_rate(novel)) == (rate, 1e-4)
    assert bench.decoder_learning_rate(base) is None
    adaptation = begin(bench.model, bench.method(novel), torch.Generator())
    for given in (None, 1e-4):
        optimizer = adaptation.optimizer(rate, steps=10, values_learning_rate=given).optimizer
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates == {"factors": rate, "values": 1e-4}
    remove_trained(bench.model.network)


def test_a_patient_is_refused_for_what_its_role_forbids(bench: Bench) -> None:
    bench.store.case("pt_6", "liver", "choose")
    with pytest.raises(InputError, match="pt_6 of bodies is in validation role"):
        bench.store.case("pt_6", "liver", "fit")


def test_patients_that_do_not_fit_into_memory_are_read_again(inventory: Inventory) -> None:
    size = CaseStore(inventory, 4.5).case("pt_3", "liver", "fit").bytes
    store = CaseStore(inventory, 4.5, most_bytes=2 * size)
    first, second = (store.case(name, "liver", "fit") for name in ("pt_3", "pt_4"))
    assert store.case("pt_3", "liver", "fit") is first
    store.case("pt_5", "liver", "fit")  # in the place of pt_4, which was not asked for since
    assert store.case("pt_3", "liver", "fit") is first
    assert store.case("pt_4", "liver", "fit") is not second


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.json")), ids=lambda path: path.stem)
def test_the_studies_that_are_shipped_can_be_read(path: Path) -> None:
    config = read_study(path)
    dataset = read_dataset(config.dataset)
    assert set(config.organs) <= set(dataset.organs)
    for method in config.methods:
        assert (method.name in LOW_RANK) == bool(method.ranks)
    assert config.base in ("", *model_names())


def test_an_update_is_gone_after_a_fit_that_fails(bench: Bench) -> None:
    plan = plan_fits(bench.config, bench.inventory)[0][0]

    def stop(event: str, /, **fields: object) -> None:
        raise RuntimeError(event)

    with pytest.raises(RuntimeError, match="progress"):
        run_fit(bench, plan, stop)
    assert lora.adapters(bench.model.network) == {}


def test_other_settings_or_weights_are_another_fit(bench: Bench) -> None:
    plan = plan_fits(bench.config, bench.inventory)[0][0]
    name = fit_name(plan, "bodies", bench.settings(plan))
    assert name.startswith("arena-r4-liver-k1-f1-s0-validation-")
    other_ranks = replace(plan, method=replace(plan.method, ranks=(2, 4, 64)))
    assert name == fit_name(other_ranks, "bodies", bench.settings(plan))
    assert name == fit_name(plan, "bodies", bench.settings(plan))
    longer = replace(bench.config, fit=replace(bench.config.fit, steps=5))
    other = Bench(longer, bench.inventory, bench.model, bench.store)
    assert fit_name(plan, "bodies", other.settings(plan)) != name
    trained_on = replace(bench.model, sha256="0" * 64)
    other = Bench(bench.config, bench.inventory, trained_on, bench.store)
    assert fit_name(plan, "bodies", other.settings(plan)) != name


def test_a_damaged_record_is_made_again(tmp_path: Path) -> None:
    path = write_record(tmp_path / "fits", "one", {"format": 1, "dice": 0.5})
    assert read_record(path) == {"format": 1, "dice": 0.5}
    assert finished(path.parent, ["one", "two"]) == {"one"}
    path.write_text(path.read_text()[:9])
    assert finished(path.parent, ["one", "two"]) == set()


def test_a_base_network_is_pretrained_on_its_role_and_knows_what_it_saw(
    inventory: Inventory, tmp_path: Path
) -> None:
    config = a_study()
    weights = pretrain_base(config, inventory, tmp_path / "base", CPU)
    _, metadata = read_weights(weights)
    assert json.loads(metadata["patients"]) == {"bodies": ["pt_1", "pt_2"]}
    assert json.loads(metadata["config"])["classes"] == ["background", "liver"]
    check_base(str(weights), inventory)
    other_roles = {**inventory.roles, "pretraining": ("pt_1",), "test": ("pt_2", "pt_7")}
    with pytest.raises(InputError, match="has seen 1 patients of role test: pt_2"):
        check_base(str(weights), replace(inventory, roles=other_roles))
    written = weights.read_bytes()
    assert pretrain_base(config, inventory, tmp_path / "base", CPU) == weights
    assert weights.read_bytes() == written
