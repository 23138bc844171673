"""Seconds and memory of a slice in SAM's networks, with weights at random.

    python Testing/benchmarks/bench_sam.py [--size b|l|h] [--device cpu|cuda]

Prints, per slice of 384 x 384 mm, the processor's seconds of prediction, of a step of fitting the
tokens of ten organs on the slice's embedding, and of a step of training with ARENA (rank 8) below
our heads and below the tokens, and the greatest memory so far. On a GPU, seconds by the clock.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable

import torch  # noqa: TID253

import torchvision_operators  # noqa: F401
from reglora_core.features import sample_maps
from reglora_core.methods.adaptation import MethodConfig, begin
from reglora_core.methods.mask_decoder import MaskHead
from reglora_core.models.base import BaseModel
from reglora_core.models.families import family_of
from reglora_core.models.registry import model_entry
from reglora_core.models.sam import PUBLISHED, build

ORGANS = 10
POINTS = 3000  # annotated voxels of a step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("b", "l", "h"), default="b")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    entry = model_entry(f"sam-vit-{options.size}")
    network = build(PUBLISHED[f"vit-{options.size}"]).requires_grad_(False).to(device)
    model = BaseModel(entry, network, family_of(entry), "", (1, 256, 256), slice_axis=0)
    volume = torch.randn(1, 1, 256, 256, device=device) * 200

    def predict() -> None:
        with torch.no_grad():
            model.feature_maps(volume)

    def fit_tokens() -> None:
        head.at(embedding, places).square().mean().backward()

    def train() -> None:
        sample_maps(model.feature_maps(volume), places).square().mean().backward()

    def train_with_tokens() -> None:
        head.at(model.feature_maps(volume)[0], places).square().mean().backward()

    say(f"ViT-{options.size.upper()} on {device}, {torch.get_num_threads()} threads")
    timed("prediction of a slice", predict, device)
    head = MaskHead(model, tuple((organ,) for organ in range(ORGANS))).to(device)
    places = torch.rand(POINTS, 3, device=device)
    with torch.no_grad():
        embedding = model.feature_maps(volume)[0]
    timed("step of fitting tokens", fit_tokens, device)
    begin(model, MethodConfig("arena", 8), torch.Generator().manual_seed(0))
    timed("step of arena", train, device)
    timed("step of arena-mask-decoder", train_with_tokens, device)


def timed(name: str, work: Callable[[], None], device: torch.device) -> None:
    """Do the work, on a GPU once before to warm up, and print its seconds."""
    is_gpu = device.type == "cuda"
    clock = time.perf_counter if is_gpu else time.process_time
    for _ in range(2 if is_gpu else 1):
        start = clock()
        work()
        if is_gpu:
            torch.cuda.synchronize()
        seconds = clock() - start
    if is_gpu:
        gigabytes = torch.cuda.max_memory_allocated() / 1e9
    else:
        gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    say(f"{name:28} {seconds:6.2f} s  {gigabytes:5.1f} GB")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
