"""Memory that a run takes: counted per model for the forecast, and held against what is measured.

    python Testing/benchmarks/bench_memory.py table [NAME ...]   # counts; writes memory.json
    python Testing/benchmarks/bench_memory.py passes             # counted beside measured
    python Testing/benchmarks/bench_memory.py runs [ZxYxX] [NAME ...]   # whole runs; minutes
    python Testing/benchmarks/bench_memory.py hollow [ZxYxX] [NAME ...] # the same, mostly air

`table` counts, for every base network, the largest sum of bytes of tensors that are alive at
once while a window goes through the network and the heads, and while a crop is trained on. It
does so on fake tensors, which have shapes and no content, so that no network is too large for it.
What libraries take besides (scratch of a convolution) is not counted.

`passes` measures the same on small networks, each pass in a process of its own, as the growth of
the peak resident set (ru_maxrss); `runs` does so for whole runs of `reglora adapt` and `predict`
on a synthetic CT, published networks with weights drawn at random. `hollow` does it on a body of
three rods: the scores of its box are what is large then, and few windows need the network.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from reglora_core.process import tune_process

tune_process()  # as the command line does; before torch is loaded

import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from torch import nn  # noqa: TID253
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: TID253
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: TID253
from torch.utils._pytree import tree_leaves  # noqa: TID253

import torchvision_operators  # noqa: F401
from reglora_core import forecast
from reglora_core.events import parse
from reglora_core.features import sample_maps
from reglora_core.grids import Shape
from reglora_core.head import Head, HeadConfig
from reglora_core.methods.adaptation import MethodConfig, begin
from reglora_core.models import registry, sam, segresnet, swinunetr
from reglora_core.models.base import BaseModel
from reglora_core.models.checkpointing import checkpointed
from reglora_core.models.families import family_of
from reglora_core.models.tiny import TinyConfig, TinyUNet
from reglora_core.models.unet3d import UNet3D

TABLE = Path(forecast.__file__).with_name("models") / "memory.json"
ORGANS = 10
PRECISIONS = ("single", "half")
SMALL = (("reglora-tiny", 2, 64), ("suprem-segresnet", 16, 64), ("swinunetr", 24, 96))
VOXELS = 3000  # of a training step (RefineConfig)
DRAWN = 48_000  # for the heads, per scan (samples.VOXELS, twice)
FILTERS = {"suprem-segresnet": 16, "monai-wholebody": 32, "monai-wholebody-3mm": 32}
FILTERS |= {f"sam-{name}": size.width for name, size in sam.PUBLISHED.items()}
BUILD: dict[str, Callable[[int], nn.Module]] = {
    "tiny": lambda classes: TinyUNet(TinyConfig(classes=("",) * classes)),
    "swinunetr": swinunetr.build,
    "swinvit": swinunetr.build_encoder,
    "unet3d": UNet3D,
    "segresnet": segresnet.build,
    "segresnet-ds": segresnet.build_deep,
    "sam": lambda width: sam.build(
        next(size for size in sam.PUBLISHED.values() if size.width == width)
    ),
}
SIZES = {"tiny": 2, "swinunetr": 48, "swinvit": 48, "unet3d": 32, "segresnet-ds": 48, "sam": 768}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, while these are alive.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return result

    def sizes(self) -> list[int]:
        """Return the bytes of each storage that is alive."""
        return list(self._known.values())

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._known.pop(key)


class Passes:
    """What a run puts through a network, without the data: a window, a step of training."""

    def __init__(self, name: str, size: int) -> None:
        entry = registry.model_entry(name)
        network = BUILD[entry.family](size).eval().requires_grad_(False)
        if entry.family == "tiny":
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        axis = 0 if entry.sees_slices else None
        self.model = BaseModel(entry, network, family_of(entry), "", entry.patch_size, axis)
        self.is_half = False
        groups = (tuple(range(ORGANS)),)
        self.heads = [Head(self.model.widths, groups, HeadConfig()).eval() for _ in range(2)]

    def run(self, what: str, shape: Shape) -> None:
        (self.window if what == "window" else self.step)(shape)

    def maps(self, shape: Shape) -> list[torch.Tensor]:
        """Return the feature maps; in 16 bits as on a GPU, which trains in them everywhere."""
        is_short = self.model.slice_axis is not None  # as BaseModel.feature_maps
        kept = checkpointed(self.model.network) if is_short else nullcontext()
        with kept, torch.autocast("cpu", torch.bfloat16, enabled=self.is_half):
            return self.model.family.feature_maps(self.model.network, torch.zeros(1, *shape))

    def window(self, shape: Shape) -> None:
        """Features of the drawn voxels, then probabilities of the whole window."""
        with torch.no_grad():
            maps = self.maps(shape)
            _ = sample_maps(maps, torch.zeros(DRAWN, 3))
            del _
            torch.stack([head.on_maps(maps) for head in self.heads]).mean(0)

    def begin(self) -> list[nn.Parameter]:
        """Add the update; return what is trained: it, and the heads."""
        adaptation = begin(self.model, MethodConfig(), torch.Generator().manual_seed(0))
        return [*adaptation.parameters, *(p for head in self.heads for p in head.parameters())]

    def step(self, shape: Shape) -> None:
        """Forward and backward; the optimizer's own state is no part of it."""
        maps = self.maps(shape)
        features = sample_maps(maps, torch.zeros(VOXELS, 3))
        target = torch.zeros(VOXELS, dtype=torch.long)
        losses = [F.cross_entropy(head(features), target) for head in self.heads]
        torch.stack(losses).mean().backward()


def counted(name: str, size: int) -> dict[str, Any]:
    """Return one model's row of the table, in bytes."""
    passes = Passes(name, size)
    network = passes.model.network
    row: dict[str, Any] = {
        "weights": sum(value.nbytes for value in network.parameters()),
        "channels": sum(passes.model.widths),
        "stride": passes.model.stride,
    }
    for what, shape in (
        ("window", passes.model.patch),
        ("step", passes.model.crop(forecast.CROP)),
    ):
        if what == "step":
            row["trained"] = sum(value.nbytes for value in passes.begin())
        row[what] = {"voxels": math.prod(shape)} | {
            precision: peak(passes, what, shape, precision) for precision in PRECISIONS
        }
    return row


def peak(passes: Passes, what: str, shape: Shape, precision: str) -> int:
    """Return the largest sum of bytes alive during a pass, by fake tensors."""
    passes.is_half = precision == "half"
    with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live:
        passes.run(what, shape)
    return live.peak


def write_table(names: list[str]) -> None:
    """Count the named base networks and put them into the table; networks alike count once."""
    known: dict[tuple[str, int], dict[str, Any]] = {}
    table = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    for name in names:
        family = registry.model_entry(name).family
        key = (family, FILTERS.get(name) or SIZES[family])
        if key not in known:
            known[key] = counted(name, key[1])
        table[name] = known[key]
        sys.stdout.write(f"{name}: {json.dumps(known[key])}\n")
        sys.stdout.flush()
    ordered = {name: table[name] for name in registry.model_names() if name in table}
    TABLE.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def grown(work: Callable[[], object]) -> int:
    """Return what the peak resident set grows by (in a process that has not peaked before)."""
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def measure_pass(name: str, size: int, what: str, edge: int, precision: str) -> None:
    """Print what a pass takes, after a small one that loads what libraries load once."""
    passes = Passes(name, size)
    if what == "step":
        passes.begin()
    passes.is_half = precision == "half"
    passes.run(what, (2 * passes.model.stride,) * 3)
    sys.stdout.write(f"{grown(lambda: passes.run(what, (edge,) * 3))}\n")


def check_passes() -> None:
    for name, size, edge in SMALL:
        passes = Passes(name, size)
        for what in ("window", "step"):
            if what == "step":
                passes.begin()
            for precision in PRECISIONS:
                asked = [name, str(size), what, str(edge), precision]
                command = [sys.executable, __file__, "measure", *asked]
                measured = int(subprocess.run(command, check=True, capture_output=True).stdout)
                text = f"{what}, {name} of size {size}, {edge}^3, {precision}"
                _say(text, peak(passes, what, (edge,) * 3, precision), measured)


def _say(what: str, foretold: float, measured: float) -> None:
    ratio = foretold / measured
    sys.stdout.write(f"{what:58}{foretold / 1e6:9.0f}{measured / 1e6:9.0f}{ratio:8.2f}\n")
    sys.stdout.flush()


def check_runs(shape: Shape, models: list[str], is_hollow: bool = False) -> None:
    """Adapt and predict on a synthetic CT of 1.5 mm, with weights drawn at random."""
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        image, labels = (hollow_case if is_hollow else synthetic_case)(home, shape)
        for name in models:
            entry = registry.model_entry(name)
            if not entry.weights:
                folder = registry.default_cache().relative_to(Path.home()) / name
                (home / folder).mkdir(parents=True)
                network = BUILD[entry.family](FILTERS.get(name) or SIZES[entry.family])
                torch.save(network.state_dict(), home / folder / "weights.pth")
            adapt = ["adapt", "--image", image, "--labels", labels, "--model", name, "--steps", "2"]
            _check_run(home, f"adapt, {name}", [*adapt, "--out", home / name])
            adapter = ["--adapter", home / name / "adapter.safetensors"]
            predict = ["predict", *adapter, "--image", image, "--out", home / "out.nrrd"]
            _check_run(home, f"predict, {name}", predict)


def _check_run(home: Path, what: str, arguments: list[Any]) -> None:
    command = [sys.executable, "-m", "reglora_core", *map(str, arguments), "--events"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HOME": str(home)}
    ) as process:
        assert process.stdout is not None
        foretold = [event for line in process.stdout if (event := parse(line)) is not None]
        usage = os.wait4(process.pid, 0)[2]
    needed = next(event["needed"] for event in foretold if event["event"] == "memory")
    _say(what, needed, usage.ru_maxrss * 1024)


def synthetic_case(
    folder: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1.5,) * 3
) -> tuple[Path, Path]:
    """Write a noisy body with ten organs, each a box, and five painted slices of it.

    `shape` is z, y, x and `spacing` x, y, z, in mm.
    """
    voxels = _tissue(shape)
    painted = torch.zeros(shape, dtype=torch.uint8)
    depth, rows, columns = shape
    for organ in range(ORGANS):
        left = columns // 12 * (organ + 1)
        box = (slice(None), slice(rows // 3, 2 * rows // 3), slice(left, left + columns // 16))
        voxels[box] += 15 * organ
        painted[box] = organ + 1
    kept = torch.zeros(depth, dtype=torch.bool)
    kept[depth // 6 :: depth // 5] = True
    painted[~kept] = 0
    return _written(folder, voxels, painted, spacing)


def hollow_case(folder: Path, shape: Shape) -> tuple[Path, Path]:
    """Write three rods along the edges of a box of air, ten organs in one, five painted slices."""
    tissue = _tissue(shape)
    voxels = torch.full(shape, -1000.0)
    thick, whole = slice(0, 28), slice(None)
    for rod in ((whole, thick, thick), (thick, whole, thick), (thick, thick, whole)):
        voxels[rod] = tissue[rod]
    painted = torch.zeros(shape, dtype=torch.uint8)
    pitch = (shape[1] - 16) // ORGANS
    for organ in range(ORGANS):
        start = 8 + pitch * organ
        box = (thick, slice(start, start + 2 * pitch // 3), slice(4, 22))
        voxels[box] += 15 * organ
        painted[box] = organ + 1
    kept = torch.zeros(shape[0], dtype=torch.bool)
    kept[3:28:5] = True
    painted[~kept] = 0
    return _written(folder, voxels, painted)


def _tissue(shape: Shape) -> torch.Tensor:
    return 40 + 20 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _written(
    folder: Path,
    voxels: torch.Tensor,
    painted: torch.Tensor,
    spacing: tuple[float, float, float] = (1.5,) * 3,
) -> tuple[Path, Path]:
    paths = folder / "image.nrrd", folder / "labels.nrrd"
    for path, array in zip(paths, (voxels.short(), painted), strict=True):
        image = sitk.GetImageFromArray(array.numpy())
        image.SetSpacing(spacing)
        sitk.WriteImage(image, str(path))
    return paths


def main() -> None:
    what, *rest = sys.argv[1:] or ["passes"]
    if what == "table":
        write_table(rest or registry.model_names())
    elif what == "measure":
        name, size, kind, edge, precision = rest
        measure_pass(name, int(size), kind, int(edge), precision)
    else:
        sys.stdout.write(f"{'':58}{'forecast':>9}{'measured':>9}{'ratio':>8}   (MB)\n")
        if what == "passes":
            check_passes()
        else:
            shape = (128, 160, 192)
            if rest and rest[0][0].isdigit():
                depth, rows, columns = map(int, rest.pop(0).split("x"))
                shape = (depth, rows, columns)
            check_runs(shape, rest or ["reglora-tiny"], is_hollow=what == "hollow")


if __name__ == "__main__":
    main()
