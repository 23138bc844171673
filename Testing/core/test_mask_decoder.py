"""SAM's mask decoder with a token per organ: its equation, its fit, and its way into a file."""

from __future__ import annotations

from pathlib import Path

import published_weights
import pytest
import torch  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.events import ignore
from reglora_core.head import HeadConfig
from reglora_core.methods.adaptation import MethodConfig, refuse_undefined
from reglora_core.methods.catalogue import method_entry
from reglora_core.methods.mask_decoder import (
    MaskHead,
    PaintedSlice,
    fit_masks,
    mask_head_from_state,
)
from reglora_core.models import registry, sam
from reglora_core.models.base import BaseModel
from reglora_core.models.families import family_of
from reglora_core.samples import Voxels

pytest.importorskip("segment_anything")


def a_model(axis: int = 0) -> BaseModel:
    name, network, _ = published_weights.checkpoint("MedSAM")
    entry = registry.model_entry(name)
    network.requires_grad_(False)
    model = BaseModel(entry, network, family_of(entry), "", (1, 32, 32), slice_axis=0)
    return model.cut_along(axis)


def embeddings(count: int) -> torch.Tensor:
    return torch.randn(count, 32, 8, 8, generator=torch.Generator().manual_seed(1))


def test_with_sams_own_tokens_and_layers_the_masks_are_sams() -> None:
    """Of its four masks; their networks share all layers but the last, as organs' do."""
    model = a_model()
    decoder = model.network.mask_decoder
    shared = decoder.output_hypernetworks_mlps[0]
    for own in decoder.output_hypernetworks_mlps[1:]:
        own.layers[:-1].load_state_dict(shared.layers[:-1].state_dict())
    head = MaskHead(model, ((0, 1), (2,), (3,)))
    last = [own.layers[-1] for own in decoder.output_hypernetworks_mlps]
    with torch.no_grad():
        head.tokens.copy_(decoder.mask_tokens.weight)
        head.weight.copy_(torch.stack([layer.weight for layer in last]))
        head.bias.copy_(torch.stack([layer.bias for layer in last]))
        sparse, dense = model.network.prompt_encoder(points=None, boxes=None, masks=None)
        places = model.network.prompt_encoder.get_dense_pe()
        for image in embeddings(2).split(1):
            expected, _ = decoder.predict_masks(image, places, sparse, dense)
            torch.testing.assert_close(head.masks(image), expected, rtol=1e-4, atol=1e-5)


def test_at_first_every_organ_is_sams_first_mask() -> None:
    head = MaskHead(a_model(), ((0,), (1,)))
    with torch.no_grad():
        first, second = head.masks(embeddings(1))[0]
    torch.testing.assert_close(first, second)
    assert float(first.std()) > 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_is_made_of_the_masks_of_its_slices(axis: int) -> None:
    """One group of two organs and one of one: probabilities of each add up to one."""
    head = MaskHead(a_model(axis), ((0, 1), (2,)))
    with torch.no_grad():
        head.tokens += torch.randn(head.tokens.shape, generator=torch.Generator().manual_seed(4))
        masks = head.masks(embeddings(3))
        upright = embeddings(3).transpose(0, 1)[None]
        lying = (upright if axis == 0 else upright.flip(3)).movedim(2, axis + 2)
        found = head.on_maps([lying])
        at_corner = head.at(lying, torch.zeros(1, 3))
    expected = masks.transpose(0, 1)
    expected = (expected if axis == 0 else expected.flip(2)).movedim(1, axis + 1)
    torch.testing.assert_close(found[[0, 1, 2]].sum(0), torch.ones_like(found[0]))
    odds = (found[[1, 2, 4]] / found[[0, 0, 3]]).log()
    torch.testing.assert_close(odds, expected, rtol=1e-3, atol=1e-4)
    corner = torch.stack([torch.zeros(()), *expected[:2, 0, 0, 0], torch.zeros(()),
                          expected[2, 0, 0, 0]])  # fmt: skip
    torch.testing.assert_close(at_corner[0], corner)


def a_slice() -> PaintedSlice:
    """Return a slice whose left half is the organ, drawn on a grid of points."""
    rows, columns = torch.meshgrid(*[(torch.arange(32) + 0.5) / 32] * 2, indexing="ij")
    points = torch.stack([torch.full((1024,), 0.5), rows.flatten(), columns.flatten()], dim=1)
    targets = (points[:, 2:] < 0.5).long()
    voxels = Voxels(points, targets, torch.ones(1024, 1, dtype=torch.bool))
    here, there, noise = embeddings(3)
    image = 0.1 * noise[None]
    image[..., :4] += here[:, :1, :1]
    image[..., 4:] += there[:, :1, :1]
    return PaintedSlice(image[:, :, None], voxels)


def smooth_(model: BaseModel) -> None:
    """Let the decoder enlarge smoothly and on a scale of ones, as after training."""
    for layer, scale in ((0, 1.0), (3, 10.0)):
        weight = model.network.mask_decoder.output_upscaling[layer].weight
        weight.copy_(scale * weight[:, :, :1, :1].expand_as(weight).clone())


def test_the_fit_finds_an_organ_and_leaves_the_network_as_it_was() -> None:
    model, painted = a_model(), a_slice()
    smooth_(model)
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    seen: list[dict[str, object]] = []
    head = fit_masks(
        MaskHead(model, ((0,),)),
        [painted],
        HeadConfig(steps=60),
        generator,
        lambda event, **own: seen.append(own),
    )
    with torch.no_grad():
        found = head.at(painted.embedding, painted.voxels.points).argmax(1)
    assert float((found == painted.voxels.targets[:, 0]).float().mean()) > 0.95
    assert [event["step"] for event in seen] == [10, 20, 30, 40, 50, 60]
    assert all(torch.equal(model.network.state_dict()[key], own) for key, own in before.items())
    again = fit_masks(
        MaskHead(model, ((0,),)),
        [painted],
        HeadConfig(steps=60),
        torch.Generator().manual_seed(0),
        ignore,
    )
    assert torch.equal(again.tokens, head.tokens)


def test_a_saved_head_is_small_and_the_same() -> None:
    model = a_model()
    head = MaskHead(model, ((0,),))
    fit_masks(head, [a_slice()], HeadConfig(steps=5), torch.Generator(), ignore)
    state = head.state_dict()
    assert sorted(state) == ["bias", "tokens", "weight"]
    again = mask_head_from_state(model, ((0,),), state)
    with torch.no_grad():
        assert torch.equal(again.masks(embeddings(1)), head.masks(embeddings(1)))
    with pytest.raises(RuntimeError, match="size mismatch"):
        mask_head_from_state(model, ((0, 1),), state)
    with torch.device("meta"):
        published = sam.build(sam.SamSize())
        of_ten = MaskHead(
            BaseModel(model.entry, published, model.family, "", (1, 256, 256), slice_axis=0),
            tuple((k,) for k in range(10)),
        )
    assert sum(value.numel() for value in of_ten.state_dict().values()) == 84_800


def test_other_networks_have_no_mask_decoder(small_model: BaseModel) -> None:
    with pytest.raises(InputError, match="a TinyUNet has no mask decoder; use linear-probe"):
        refuse_undefined(small_model, MethodConfig("mask-decoder"))
    with pytest.raises(InputError, match="has no mask decoder; use arena, or a SAM"):
        refuse_undefined(small_model, MethodConfig("arena-mask-decoder"))
    for method in ("mask-decoder", "arena-mask-decoder"):
        refuse_undefined(a_model(), MethodConfig(method))


def test_tokens_are_fitted_at_the_rate_in_the_catalogue() -> None:
    assert HeadConfig().learning_rate == method_entry("mask-decoder").learning_rate


def test_the_method_goes_from_paint_to_the_next_patient(
    quick_fits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import phantom

    from reglora_core.adapter import load_adapter
    from reglora_core.cli import main
    from reglora_core.models.cache import import_model
    from reglora_core.volumes import read_image

    monkeypatch.setattr(registry, "default_cache", lambda: tmp_path / "cache")
    _, _, content = published_weights.checkpoint("MedSAM")
    torch.save(content, tmp_path / "weights.pth")
    import_model("medsam-vit-b", tmp_path / "weights.pth")
    hounsfield, labels = phantom.body()
    painted = phantom.on_slices(labels, (14, 21, 28, 35))
    scan = phantom.write(tmp_path / "ct.nrrd", phantom.image_of(hounsfield, (1.0,) * 3))
    paint = phantom.write(tmp_path / "painted.nrrd", phantom.image_of(painted, (1.0,) * 3))
    given = ["--image", str(scan), "--labels", str(paint), "--out", str(tmp_path / "out")]
    command = ["adapt", *given, "--model", "medsam-vit-b", "--method", "mask-decoder"]
    assert main(command) == 0
    file = tmp_path / "out" / "adapter.safetensors"
    adapter = load_adapter(file)
    assert (adapter.head, adapter.slice_axis, adapter.update) == ("masks", "S", {})
    assert len(adapter.heads) == 1
    found = tmp_path / "found.nrrd"
    predict = ["predict", "--adapter", str(file), "--image", str(scan), "--out", str(found)]
    assert main(predict) == 0
    assert read_image(found).GetSize() == (48, 48, 48)
