"""The methods by name: what each trains, where it comes from, at which learning rate.

Needs nothing beyond the standard library, so that the command line and the panel can list them
before torch is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reglora_core.errors import InputError

Kind = Literal["none", "low-rank", "values", "branch"]
HeadKind = Literal["mlp", "linear", "classes", "masks"]
DECODER_LEARNING_RATE = 1e-4  # of every method when the decoder is trained too (FSEFT)


@dataclass(frozen=True)
class MethodEntry:
    """One method.

    Attributes:
        trains: what, in a few words.
        kind: how it is held: low-rank updates, values (offsets), branches, nothing.
        learning_rate: published with FSEFT or ARENA; ours for arena+ and mask-decoder; 0 where
            nothing is trained.
        head: what reads organs off the features in `reglora adapt`: our two-layer head, the
            linear probe of the last feature map, the classes that the network was trained on, or
            SAM's mask decoder.
        source: paper.
        low_rank: where another low-rank method's update goes with another head, that method.
        keeps_rate: where the decoder is trained besides, the decoder alone goes at the decoder's
            rate; for the others that is the most that anything in the network has, as in FSEFT.
    """

    name: str
    trains: str
    kind: Kind
    learning_rate: float
    source: str
    head: HeadKind = "mlp"
    low_rank: str = ""
    keeps_rate: bool = False

    @property
    def update(self) -> str:
        """What it makes of the network, in a sentence."""
        return "the low-rank update" if self.kind == "low-rank" else f"the update by {self.name}"


FSEFT = "Silva-Rodriguez et al., MedIA 103 (2025), arXiv 2303.17051"
ARENA = "Baklouti et al., MICCAI 2025, arXiv 2507.15793"
HU = "Hu et al., ICLR 2022, arXiv 2106.09685"

_ENTRIES = (
    MethodEntry("arena", "gated low-rank updates, l1 step on the gates", "low-rank", 1e-3, ARENA),
    MethodEntry("arena+", "the same, gates as singular values: real pruning", "low-rank", 2e-3,
                "this project (docs/method.md)", keeps_rate=True),
    MethodEntry("gates", "arena without its l1 step (lambda = 0)", "low-rank", 1e-3, ARENA),
    MethodEntry("lora", "low-rank updates", "low-rank", 1e-3, HU),
    MethodEntry("adalora", "low-rank updates, budget shared out by importance", "low-rank", 1e-3,
                "Zhang et al., ICLR 2023, arXiv 2303.10512"),
    MethodEntry("sora", "gated low-rank updates, constant threshold", "low-rank", 1e-3,
                "Ding et al., EMNLP 2023, arXiv 2311.11696"),
    MethodEntry("adaptformer", "bottlenecks beside the MLPs of a transformer", "branch", 1e-2,
                "Chen et al., NeurIPS 2022, arXiv 2205.13535"),
    MethodEntry("spatial-adapter", "two convolutions on the last features", "branch", 1e-4, FSEFT),
    MethodEntry("bitfit", "biases of the encoder", "values", 1e-2,
                "Ben Zaken et al., ACL 2022, arXiv 2106.10199"),
    MethodEntry("affine-ln", "layer norms of the encoder", "values", 1e-2,
                "Basu et al., AAAI 2024, arXiv 2304.01917"),
    MethodEntry("decoder-ft", "the decoder", "values", 1e-4, FSEFT),
    MethodEntry("full-ft", "the whole network", "values", 1e-4, FSEFT),
    MethodEntry("scratch", "the whole network, from random weights", "values", 1e-4, FSEFT),
    MethodEntry("linear-probe", "a linear head alone", "none", 1e-2, FSEFT, "linear"),
    MethodEntry("mask-decoder", "a token per organ in SAM's mask decoder", "none", 5e-3,
                "Kirillov et al., ICCV 2023, arXiv 2304.02643", "masks"),
    MethodEntry("arena-mask-decoder", "arena in SAM's encoder, a token per organ in its decoder",
                "low-rank", 1e-3, f"{ARENA}; Kirillov et al., arXiv 2304.02643", "masks", "arena"),
    MethodEntry("zero-shot", "nothing: the organs that the network knows", "none", 0.0, FSEFT,
                "classes"),
    MethodEntry("head", "our two-layer head alone", "none", 0.0, "this project (docs/method.md)"),
)  # fmt: skip
METHODS = tuple(entry.name for entry in _ENTRIES)
LOW_RANK = tuple(entry.name for entry in _ENTRIES if entry.kind == "low-rank")


def method_entry(name: str) -> MethodEntry:
    """Return a method's entry.

    Raises:
        InputError: there is none of that name.
    """
    for entry in _ENTRIES:
        if entry.name == name:
            return entry
    message = f"method: {name!r} is unknown"
    raise InputError(message, f"choose one of {', '.join(METHODS)}")
