"""Small checkpoints in the layouts that the published weights have, made from the networks.

The layouts are those that the publishers' own code writes or reads; docs/models.md names it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np  # noqa: TID253
import torch  # noqa: TID253
from monai.networks.nets import vista3d132  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.models import sam, segresnet, swinunetr
from reglora_core.models.unet3d import UNet3D

State = dict[str, torch.Tensor]


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def randomised(network: nn.Module) -> nn.Module:
    """Fill normalisations, too, with values that tell one tensor from another."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def _universal_head(width: int, deepest: int, classes: int = 32) -> State:
    """What the Universal Model has around its backbone."""
    return {
        "precls_conv.0.weight": torch.ones(width),
        "precls_conv.2.weight": torch.zeros(8, width, 1, 1, 1),
        "GAP.3.weight": torch.zeros(256, deepest, 1, 1, 1),
        "controller.weight": torch.zeros(153, 512, 1, 1, 1),
        "organ_embedding": torch.zeros(classes, 512),
        "text_to_vision.weight": torch.zeros(256, 512),
    }


def _training_state(net: State) -> dict[str, Any]:
    """What is saved beside the network while it trains."""
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}
    optimizer = {"state": {0: moments}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    scheduler = {"last_epoch": 3, "base_lrs": [1e-4]}
    return {"net": net, "optimizer": optimizer, "scheduler": scheduler, "epoch": 3}


def fseft(network: nn.Module) -> dict[str, Any]:
    """Its head is called ``classifier`` and has 29 classes."""
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("out")}
    width = state["encoder1.layer.conv1.conv.weight"].shape[0]
    state |= {"classifier.weight": torch.zeros(29, width, 1, 1, 1)}
    return _training_state(prefixed("module.", state))


def universal(network: nn.Module) -> dict[str, Any]:
    """SuPreM's and the CLIP-Driven Universal Model's SwinUNETR."""
    state = network.state_dict()
    width = state["encoder1.layer.conv1.conv.weight"].shape[0]
    head = _universal_head(width, 16 * width)
    return _training_state(prefixed("module.", prefixed("backbone.", state) | head))


def suprem_unet(network: nn.Module) -> dict[str, Any]:
    state = network.state_dict()
    width = state["up_tr64.ops.1.conv1.weight"].shape[0]
    for key in [key for key in state if key.endswith("bn1.weight")]:
        start = key.removesuffix("weight")
        state |= {
            start + "running_mean": torch.zeros_like(state[key]),
            start + "running_var": torch.ones_like(state[key]),
            start + "num_batches_tracked": torch.tensor(7),
        }
    state["out_tr.final_conv.weight"] = torch.zeros(1, width, 1, 1, 1)
    head = _universal_head(width, 8 * width)
    return _training_state(prefixed("module.", prefixed("backbone.", state) | head))


def suprem_segresnet(network: nn.Module) -> dict[str, Any]:
    return _training_state(prefixed("module.", network.state_dict()))


def ssl(network: nn.Module) -> dict[str, Any]:
    """Of Tang et al.: MLPs have the names of an older MONAI, heads are those of its tasks."""
    state = {
        key.replace("mlp.linear", "mlp.fc"): value for key, value in network.state_dict().items()
    }
    state |= {"rotation_head.weight": torch.zeros(4, 2), "conv.0.weight": torch.zeros(3)}
    return {"epoch": 9, "state_dict": prefixed("module.", state), "optimizer": {"state": {}}}


def ssl_head(network: nn.Module) -> dict[str, Any]:
    """As its pre-training writes it today, from within a module of all its tasks."""
    state = prefixed("swin_vit.", network.state_dict()) | {"rotation_head.bias": torch.zeros(4)}
    return {"epoch": 9, "state_dict": prefixed("module.", state)}


def plain(network: nn.Module) -> dict[str, Any]:
    return dict(network.state_dict())


def btcv_research(network: nn.Module) -> dict[str, Any]:
    """An older name of the transformer; a best score that is NumPy's."""
    state = {
        key.replace("swinViT", "swin_vit"): value for key, value in network.state_dict().items()
    }
    return {"epoch": 4999, "best_acc": np.float64(0.82), "state_dict": state}


def whole_body(network: nn.Module) -> dict[str, Any]:
    return {"model": network.state_dict()}


def vista(network: nn.Module) -> dict[str, Any]:
    return {"model": {"state_dict": prefixed("module.", network.state_dict())}}


def sam_in_training(network: nn.Module) -> dict[str, Any]:
    """As MedSAM's scripts keep it while it trains on several devices."""
    return {"model": prefixed("module.", network.state_dict()), "optimizer": {}, "epoch": 3}


def a_small_sam() -> nn.Module:
    """SAM's network with slices of 32 x 32 voxels; one block's windows, one's whole attention."""
    return sam.build(sam.SamSize(128, 32, 2, heads=2, window=5, whole=(1,), channels=32))


Maker = Callable[[], nn.Module]
# name of the base network, the small network, how it is written
LAYOUTS: dict[str, tuple[str, Maker, Callable[[nn.Module], dict[str, Any]]]] = {
    "FSEFT": ("fseft-swinunetr", lambda: swinunetr.build(12, 1), fseft),
    "SuPreM SwinUNETR": ("suprem-swinunetr", lambda: swinunetr.build(12, 32), universal),
    "SuPreM U-Net": ("suprem-unet", lambda: UNet3D(2), suprem_unet),
    "SuPreM SegResNet": ("suprem-segresnet", lambda: segresnet.build(8, 32), suprem_segresnet),
    "CLIP-Driven": ("clip-driven-swinunetr", lambda: swinunetr.build(12, 32), universal),
    "MONAI SSL": ("monai-swinvit-ssl", lambda: swinunetr.build_encoder(12), ssl),
    "MONAI SSL, all tasks": ("monai-swinvit-ssl", lambda: swinunetr.build_encoder(12), ssl_head),
    "MONAI BTCV bundle": ("monai-swinunetr-btcv", lambda: swinunetr.build(12, 14), plain),
    "MONAI BTCV research": ("swinunetr", lambda: swinunetr.build(12, 14), btcv_research),
    "MONAI whole body": ("monai-wholebody", lambda: segresnet.build(8, 105), whole_body),
    "MONAI whole body 3 mm": ("monai-wholebody-3mm", lambda: segresnet.build(8, 105), whole_body),
    "SAM": ("sam-vit-b", a_small_sam, plain),
    "MedSAM": ("medsam-vit-b", a_small_sam, plain),
    "MedSAM in training": ("medsam-vit-b", a_small_sam, sam_in_training),
    "VISTA3D": ("vista3d", lambda: vista3d132(encoder_embed_dim=16), vista),
}


def checkpoint(layout: str) -> tuple[str, nn.Module, dict[str, Any]]:
    """Return the base network's name, the small network, and its checkpoint's content."""
    name, make, write = LAYOUTS[layout]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = randomised(make())
    content = write(network)
    return name, network, content
