"""How methods are called in tables and figures, and in which order. Standard library only."""

from __future__ import annotations

from reglora_core.report.fits import Arm

# from nothing trained to everything trained; low-rank ones last before ours
LABELS = {
    "zero-shot": "zero-shot",
    "scratch": "from scratch",
    "full-ft": "full fine-tuning",
    "decoder-ft": "decoder fine-tuning",
    "linear-probe": "linear probe",
    "bitfit": "BitFit",
    "affine-ln": "Affine-LN",
    "adaptformer": "AdaptFormer",
    "spatial-adapter": "spatial adapter",
    "mask-decoder": "mask decoder",
    "adalora": "AdaLoRA",
    "sora": "SoRA",
    "lora": "LoRA",
    "gates": "gates, no prox (λ = 0)",
    "arena-mask-decoder": "ARENA, mask decoder",
    "arena": "ARENA",
    "arena+": "ARENA+ (ours)",
}
ADAPTIVE = ("arena+", "arena", "sora", "adalora")  # the rank is chosen in training
OURS = "arena+"
_ORDER = {method: number for number, method in enumerate(LABELS)}


def method_label(method: str) -> str:
    """Return a method's name as the papers write it."""
    return LABELS.get(method, method)


def arm_label(arm: Arm) -> str:
    """Return a method's name with its initial rank."""
    rank = "" if arm.initial_rank is None else f", rank {arm.initial_rank}"
    return f"{method_label(arm.method)}{rank}"


def arm_order(arm: Arm) -> tuple[int, str, int]:
    """Return the key that sorts arms as tables list them."""
    return _ORDER.get(arm.method, len(_ORDER)), arm.method, arm.initial_rank or 0


def organ_label(organ: str) -> str:
    """Return an organ's name as people write it."""
    return organ.replace("_", " ")


def layer_label(layer: str) -> str:
    """Return a layer's name without the parts that all of them have."""
    return layer.removesuffix(".conv").removesuffix(".attn.qkv")
