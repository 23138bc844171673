"""Pictures of a run, for people: what was painted, what came out, how it got there.

Every function returns a matplotlib `Figure` that belongs to nobody else (no global state, no
window); `save` writes it as a PNG file.
"""

from reglora_core.pictures.charts import MethodDice, draw_comparison
from reglora_core.pictures.progress import draw_training
from reglora_core.pictures.slices import draw_annotated_slices, draw_result
from reglora_core.pictures.style import save

__all__ = [
    "MethodDice",
    "draw_annotated_slices",
    "draw_comparison",
    "draw_result",
    "draw_training",
    "save",
]
