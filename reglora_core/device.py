"""Where a run computes, and in which precision its networks do.

bfloat16 has the range of float32 and is taken where it is fast. float16 has not: training in it
scales the loss (`loss_scaler`). It is taken on GPUs that multiply it and only emulate bfloat16.
Weights, updates and losses stay in float32; torch.autocast decides what is done in 16 bits.
"""

from __future__ import annotations

import torch  # noqa: TID253

from reglora_core.errors import ModelError

MIN_COARSE_VOXELS = 4  # along each axis at the coarsest level, to train in bfloat16
BFLOAT16_SINCE, FLOAT16_SINCE = (8, 0), (7, 0)  # compute capability with tensor cores for it
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` takes the best one there is.

    Raises:
        ModelError: this computer has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        message = f"device {name!r} is not there"
        raise ModelError(message, "choose auto or cpu") from error
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return the precision of that name; ``auto`` takes 16 bits where they are fast.

    Raises:
        ModelError: the device cannot train in it.
    """
    if name == "float16" and device.type != "cuda":
        message = f"precision {name!r} is for NVIDIA GPUs, and the device is {device.type!r}"
        raise ModelError(message, "choose auto, float32 or bfloat16")
    if name != "auto":
        return name
    if has_fast_bfloat16(device):
        return "bfloat16"
    is_fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= FLOAT16_SINCE
    return "float16" if is_fast else "float32"


def has_fast_bfloat16(device: torch.device) -> bool:
    """Tell whether bfloat16 is faster than float32: on GPUs and CPUs that multiply it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= BFLOAT16_SINCE
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, probe, bool)() for probe in probes)


def mixed_precision(volume: torch.Tensor, stride: int, precision: str = "auto") -> torch.autocast:
    """Return a context in which a network computes in 16 bits where that is right.

    On CPUs, oneDNN's weight gradient of a 3 x 3 x 3 convolution of two planes reads memory that
    nothing was written to (torch 2.13, avx512_bf16: gradients differ from run to run, or are
    NaN); three planes are right. Networks that train on so little stay in float32.

    Args:
        volume: input (..., D, H, W).
        stride: of the network's coarsest level.
        precision: as `choose_precision` takes it.
    """
    is_small = min(volume.shape[-3:]) < MIN_COARSE_VOXELS * stride
    is_risky = volume.device.type == "cpu" and is_small and torch.is_grad_enabled()
    chosen = choose_precision(precision, volume.device)
    if chosen == "float32" or is_risky:
        return torch.autocast(volume.device.type, torch.bfloat16, enabled=False)
    return torch.autocast(volume.device.type, DTYPES[chosen])


def loss_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Return what scales a loss for gradients in float16; in other precisions it does nothing."""
    chosen = choose_precision(precision, device)
    return torch.amp.GradScaler(device.type, enabled=chosen == "float16")
