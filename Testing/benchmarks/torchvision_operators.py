"""Let torchvision be imported where its compiled operators do not fit torch.

`segment_anything` and Hugging Face transformers (PEFT) import it. Neither runs an operator of it
for the networks that are tested and measured here, so schemas without an implementation do.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch  # noqa: TID253


def declare_operators() -> list[torch.library.Library]:
    """Declare them where they are missing; keep what is returned, they live as long as it."""
    found = find_spec("torchvision")
    if found is None or found.origin is None:
        return []
    try:
        torch.ops.load_library(Path(found.origin).with_name("_C.so"))
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return [library]
    return []


OPERATORS = declare_operators()  # on import, before MONAI: it imports torchvision if it is there
