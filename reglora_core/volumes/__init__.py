"""Images and label maps on disk, and their geometry.

An image is a SimpleITK image of three axes (x, y, z) with origin, spacing (mm) and direction; an
array of it is (z, y, x). Label maps always lie on their image's grid.
"""

from reglora_core.volumes.images import read_image
from reglora_core.volumes.label_maps import LabelMap
from reglora_core.volumes.labels import read_labels
from reglora_core.volumes.segmentations import write_segmentation
from reglora_core.writing import write_atomically, write_text

__all__ = [
    "LabelMap",
    "read_image",
    "read_labels",
    "write_atomically",
    "write_segmentation",
    "write_text",
]
