"""RegLoRASegment's library: few-slice organ segmentation with adaptive-rank LoRA."""

__version__ = "0.1.0"
