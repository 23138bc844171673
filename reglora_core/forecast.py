"""How much memory a run will take, told before it starts. Standard library only.

What the network takes was counted once per model (models/memory.json, written by
`Testing/benchmarks/bench_memory.py table`): its weights, and the largest sum of tensors that are
alive at once while a window goes through it and while a crop is trained on. What the scan takes
follows from its size and from what of it is alive at each moment of a run (`Alive`). The largest
moment counts. Four numbers were fitted to what was measured: `PROCESS`, `KEPT_SAMPLES`, `SCRATCH`
and `STEP_SCRATCH`. How near the forecast comes is in docs/benchmarks.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from reglora_core.models.entry import ModelEntry

CROP = 64  # working voxels along each axis; of a training step, where it is no slice
COARSE = 4  # voxels along each axis at the coarsest level, to train in 16 bits on a CPU
DRAWN = 48_000  # voxels drawn per scan, for the heads
FLOAT = 4  # bytes
SAMPLES = 3  # copies of the drawn voxels' features while the heads are fitted
KEPT_SAMPLES = 1.5  # and what of them the heap does not get rid of
# times what was counted, on a CPU: what libraries take besides, and gaps in the heap; of a window,
# and of a step, whose convolutions run backwards
SCRATCH, STEP_SCRATCH = 1.25, 2.0
PROCESS = 700 * 10**6  # Python with PyTorch, MONAI and SimpleITK, and what torch keeps
TRAINED = 4  # a trained value, its gradient and AdamW's two moments

EXAMPLE = "a CT of 512x512x300, ten organs"
EXAMPLE_VOXELS = 512 * 512 * 300
EXAMPLE_MM = (450.0, 300.0, 400.0)  # its body (z, y, x)

Command = Literal["adapt", "predict"]


@dataclass(frozen=True)
class Alive:
    """What of a scan is alive at the moments of a run.

    Attributes:
        reading, computing, writing: bytes per voxel of the images: 16 bits of image and labels,
            and their copies.
        heads, step, window, fusion: copies of the scores (organs + 1 per working voxel) while
            heads are fitted, a crop is trained on, a window goes through the network, and experts
            and heads are put together, the most.
        smoothing: the same while those of slices are smoothed.
        islands: bytes per working voxel of the scan that islands are looked for in.
    """

    reading: float
    computing: float
    writing: float
    heads: int
    step: int
    window: int
    fusion: int
    smoothing: int
    islands: int


# The scores of an adaptation, once a trial on slices left out is there: its own, the experts' two
# and the fused ones of all slices; the first three of the trial; then those that are being made.
ALIVE = {
    "adapt": Alive(12.5, 4, 12, heads=4, step=7, window=8, fusion=9, smoothing=11, islands=32),
    "predict": Alive(10.5, 2, 7, heads=0, step=0, window=1, fusion=2, smoothing=4, islands=0),
}


@dataclass(frozen=True)
class ScanSize:
    """What of a scan decides on the memory.

    Attributes:
        native_voxels: of all images, as stored.
        working_shape: of the largest one's body, on the network's grid (z, y, x).
        working_voxels: of all bodies; 0: there is one.
        images: how many.
    """

    native_voxels: int
    working_shape: tuple[int, int, int]
    working_voxels: int = 0
    images: int = 1


@dataclass(frozen=True)
class Setting:
    """How a run computes.

    Attributes:
        command: what is done.
        is_half: in 16 bits where PyTorch's autocast does.
        is_gpu: where; a CPU trains in 32 bits where the coarsest level has few voxels.
        patch: the largest window; None: the model's own.
        organs: how many.
        trains_all: the whole network is trained, not an update of it.
        has_classes: the adapter knows classes of the base network, which have scores, too.
    """

    command: Command = "adapt"
    is_half: bool = False
    is_gpu: bool = False
    patch: tuple[int, int, int] | None = None
    organs: int = 10
    trains_all: bool = False
    has_classes: bool = False


def adapt_setting(method: str, organs: int = 0) -> Setting:
    """Return the setting of an adaptation; organs: 0 where they are not known yet."""
    trains_all = method in ("full-ft", "scratch")
    return Setting("adapt", organs=organs or Setting.organs, trains_all=trains_all)


@dataclass(frozen=True)
class Forecast:
    """Bytes at the largest moment of a run, part by part.

    Attributes:
        process: Python and its libraries.
        weights: of the base network.
        optimizer: trained values, gradients, moments.
        scan: images, labels, features of drawn voxels, scores; on a CPU, what of them comes on
            top of the activations at the largest moment.
        window, step: activations, of a window and of a training step; 0: none is taken.
    """

    process: int
    weights: int
    optimizer: int
    scan: int
    window: int
    step: int

    @property
    def needed(self) -> int:
        return self.process + self.scan + self.on_device

    @property
    def on_device(self) -> int:
        """What of it a GPU holds, where there is one."""
        return self.weights + self.optimizer + self.activations

    @property
    def activations(self) -> int:
        """The larger of a window's and a training step's."""
        return max(self.window, self.step)

    def to_dict(self) -> dict[str, int]:
        """Return the sum and its parts."""
        parts = asdict(self)
        del parts["window"], parts["step"]
        return {"needed": self.needed, **parts, "activations": self.activations}


def forecast(entry: ModelEntry, size: ScanSize, setting: Setting) -> Forecast | None:
    """Return what a run will take, or None for a network that was not counted."""
    row = _table().get(entry.name)
    if row is None:
        return None
    patch, stride = setting.patch or entry.patch_size, row["stride"]
    voxels = math.prod(
        min(-(-length // stride) * stride, limit)
        for length, limit in zip(size.working_shape, patch, strict=True)
    )
    scratch, step_scratch = (1.0, 1.0) if setting.is_gpu else (SCRATCH, STEP_SCRATCH)
    window = round(scratch * _counted(row["window"], voxels, setting.is_half))
    step = trained = samples = 0
    if setting.command == "adapt":
        crop = patch if entry.sees_slices else (min(CROP, *patch),) * 3
        is_fine = setting.is_gpu or min(crop) >= COARSE * stride
        is_half = setting.is_half and is_fine
        step = round(step_scratch * _counted(row["step"], math.prod(crop), is_half))
        trained = row["trained"] + (row["weights"] if setting.trains_all else 0)
        samples = FLOAT * DRAWN * size.images * row["channels"]
    # where a GPU holds the activations, the scan's largest moment has none beside it
    beside = (0, 0) if setting.is_gpu else (window, step)
    largest = _largest_moment(entry, size, setting, samples, *beside)
    return Forecast(
        process=PROCESS,
        weights=row["weights"],
        optimizer=TRAINED * trained,
        scan=round(largest) - max(beside),
        window=window,
        step=step,
    )


def _largest_moment(
    entry: ModelEntry, size: ScanSize, setting: Setting, samples: int, window: int, step: int
) -> float:
    """Return the bytes of scans and activations at the largest moment of a run."""
    alive = ALIVE[setting.command]
    largest_scan = math.prod(size.working_shape)
    more = 1 if setting.has_classes else 0
    scores = (setting.organs + 1) * FLOAT * (size.working_voxels or largest_scan)
    most = alive.smoothing if entry.sees_slices else alive.fusion
    computing = alive.computing * size.native_voxels + KEPT_SAMPLES * samples
    single = size.native_voxels / size.images
    return max(
        alive.computing * size.native_voxels + (alive.reading - alive.computing) * single,
        computing + (alive.window + more) * scores + window,
        computing + alive.step * scores + step,
        computing + alive.heads * scores + (SAMPLES - KEPT_SAMPLES) * samples,
        computing + (most + more) * scores + alive.islands * largest_scan,
        computing + alive.step * scores + (alive.writing - alive.computing) * size.native_voxels,
    )


def example(entry: ModelEntry) -> dict[str, dict[str, int]]:
    """Return the bytes needed for a CT of chest and abdomen, ten organs; empty: not counted.

    Returns:
        By command, and by the bits that are computed in ("32", "16").
    """
    size = ScanSize(EXAMPLE_VOXELS, working_shape(EXAMPLE_MM, entry))
    commands: tuple[Command, ...] = ("adapt", "predict")
    needed: dict[str, dict[str, int]] = {}
    for command in commands:
        for is_half in (False, True):
            found = forecast(entry, size, Setting(command, is_half))
            if found is not None:
                needed.setdefault(command, {})["16" if is_half else "32"] = found.needed
    return needed


def working_shape(extent_mm: Sequence[float], entry: ModelEntry) -> tuple[int, int, int]:
    """Return the voxels (z, y, x) that an extent has on the network's grid."""
    spacing = entry.spacing_mm if isinstance(entry.spacing_mm, tuple) else (entry.spacing_mm,) * 3
    depth, rows, columns = (
        max(1, round(mm / step)) for mm, step in zip(extent_mm, spacing, strict=True)
    )
    return depth, rows, columns


def counted_channels(entry: ModelEntry) -> int | None:
    """Return how many channels the features of the counted network have; None: not counted.

    A file of weights can hold a larger or smaller network of the same family.
    """
    row = _table().get(entry.name)
    return None if row is None else int(row["channels"])


def _counted(counted: dict[str, int], voxels: int, is_half: bool) -> float:
    """Return the bytes for a number of voxels: as many for each as where they were counted."""
    return counted["half" if is_half else "single"] * voxels / counted["voxels"]


@cache
def _table() -> dict[str, dict[str, Any]]:
    file = resources.files("reglora_core.models") / "memory.json"
    table: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return table
