"""``sam``: the Segment Anything Model on the slices of a volume, through `segment_anything`.

Kirillov et al., "Segment Anything", ICCV 2023, arXiv 2304.02643. MedSAM (Ma et al., Nature
Communications 15, 2024, arXiv 2304.12306) is the same network with other weights.

A slice is enlarged so that four voxels of the working grid become one token of the transformer;
its mask decoder then gives one vector per voxel. `segment_anything` and torchvision are imported
when a network is built, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.errors import ModelError
from reglora_core.models.inputs import InputRange
from reglora_core.models.slices import as_slices, as_volume

PATCH = 16  # pixels of a token along each side, in every published SAM
VOXELS = 4  # of the working grid along each side of a token: the decoder enlarges tokens by four
CHANNELS = 256  # of an image's embedding
COLOUR = 255.0  # end of a range of colours: those are standardised as SAM's are
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_DEVIATION = (58.395, 57.12, 57.375)
# the parts that read prompts, that judge masks, and the second to fourth mask of an ambiguous one
UNUSED = (
    r"^mask_decoder\.(output_hypernetworks_mlps\.[1-9]|iou_prediction_head)\."
    r"|^prompt_encoder\.(point_embeddings|not_a_point_embed|mask_downscaling)\."
)


@dataclass(frozen=True)
class SamSize:
    """Shape of a network, ViT-B's by default; `of` reads it off weights.

    Attributes:
        image: pixels of its square input along each side.
        width, depth, heads: of the transformer.
        window: tokens along each side of its windows of attention.
        whole: the blocks that attend to the whole image.
        channels: of its embedding.
    """

    image: int = 1024
    width: int = 768
    depth: int = 12
    heads: int = 12
    window: int = 14
    whole: tuple[int, ...] = (2, 5, 8, 11)
    channels: int = CHANNELS

    @classmethod
    def of(cls, state: Mapping[str, torch.Tensor]) -> SamSize:
        """Read the shape off a network's weights.

        Raises:
            KeyError, IndexError, ValueError: they are not those of such a network.
        """
        numbers = {int(found[1]) for key in state if (found := re.match(_BLOCK, key))}
        blocks = range(max(numbers, default=0) + 1)
        reaches = [state[f"image_encoder.blocks.{k}.attn.rel_pos_h"].shape for k in blocks]
        _, tokens, _, width = state["image_encoder.pos_embed"].shape
        local = [reach for reach, _ in reaches if reach != 2 * tokens - 1]
        channels, *_ = state["image_encoder.neck.0.weight"].shape
        if not channels or channels % 16 or not all(reaches[0]):
            message = f"{channels} channels of its embedding, {tuple(reaches[0])} positions"
            raise ValueError(message)
        return cls(
            image=PATCH * tokens,
            width=width,
            depth=len(blocks),
            heads=width // reaches[0][1],
            window=(local[0] + 1) // 2 if local else 0,
            whole=tuple(k for k in blocks if reaches[k][0] == 2 * tokens - 1),
            channels=channels,
        )


_BLOCK = r"image_encoder\.blocks\.(\d+)\."
PUBLISHED = {
    "vit-b": SamSize(),
    "vit-l": SamSize(width=1024, depth=24, heads=16, whole=(5, 11, 17, 23)),
    "vit-h": SamSize(width=1280, depth=32, heads=16, whole=(7, 15, 23, 31)),
}


def published_size(size: SamSize) -> str:
    """Return the name of the published transformer of this width and depth, or an empty text."""
    shape = (size.width, size.depth)
    known = {(own.width, own.depth): name for name, own in PUBLISHED.items()}
    return known.get(shape, "")


def build(size: SamSize) -> nn.Module:
    """Return segment_anything's network of a size, untrained.

    Raises:
        ModelError: `segment_anything` or torchvision is not there, or does not work.
    """
    parts, tokens = _package(), size.image // PATCH
    network: nn.Module = parts.Sam(
        parts.ImageEncoderViT(
            img_size=size.image,
            patch_size=PATCH,
            embed_dim=size.width,
            depth=size.depth,
            num_heads=size.heads,
            mlp_ratio=4,
            out_chans=size.channels,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=size.window,
            global_attn_indexes=size.whole,
        ),
        parts.PromptEncoder(
            embed_dim=size.channels,
            image_embedding_size=(tokens, tokens),
            input_image_size=(size.image, size.image),
            mask_in_chans=16,
        ),
        parts.MaskDecoder(
            transformer_dim=size.channels,
            transformer=parts.TwoWayTransformer(
                depth=2, embedding_dim=size.channels, num_heads=8, mlp_dim=2048
            ),
        ),
        PIXEL_MEAN,
        PIXEL_DEVIATION,
    )
    return network.eval()


def _package() -> Any:
    try:
        from segment_anything import modeling
    # torchvision that does not fit torch raises any of these
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        why = str(error).splitlines()[0]
        message = f"SAM networks need the packages segment_anything and torchvision ({why})"
        hint = "pip install segment-anything torchvision, in versions that fit your torch"
        raise ModelError(message, hint) from error
    return modeling


def is_sam(network: nn.Module) -> bool:
    """Tell whether a network is one of segment_anything's."""
    return type(network).__module__.partition(".")[0] == "segment_anything"


def like(network: nn.Module) -> nn.Module:
    """Return another network of the same size, untrained."""
    return build(SamSize.of(network.state_dict()))


@dataclass(frozen=True)
class SamFamily:
    """SAM as a base network: features of a slice are its embedding, itself, its decoder's map.

    Attributes:
        inputs: window of HU. On a range that ends at 255 it is standardised as SAM's colours
            are; on [0, 1] the network gets it as it is, as MedSAM does.
        axis: the canonical axis that slices are perpendicular to.
    """

    inputs: InputRange = field(default_factory=InputRange)
    axis: int = 0

    def along(self, axis: int) -> SamFamily:
        """Return the family with its slices perpendicular to another canonical axis."""
        return replace(self, axis=axis)

    def stride(self, network: Any) -> int:
        """Return the edge of a slice in voxels: the network's input has one size."""
        edge: int = network.image_encoder.img_size // PATCH * VOXELS
        return edge

    def widths(self, network: Any) -> tuple[int, ...]:
        channels = network.prompt_encoder.embed_dim
        return (channels, 1, channels // 8)

    def feature_maps(self, network: Any, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        """Return three maps per slice, /4, full and full resolution, in canonical orientation.

        Shape: (batch, D, H, W), one stride along both axes of a slice.
        """
        planes = as_slices(self.inputs.scaled(hounsfield), self.axis)
        batch, count = planes.shape[:2]
        grey = planes.flatten(0, 1)[:, None]
        embedding = network.image_encoder(self._images(network, grey))
        levels = (embedding, grey, decoded(network, embedding))
        stacks = (level.reshape(batch, count, *level.shape[1:]).transpose(1, 2) for level in levels)
        return [as_volume(stack, self.axis) for stack in stacks]

    def _images(self, network: Any, grey: torch.Tensor) -> torch.Tensor:
        """Return the network's input (slices, 3, pixels, pixels) of slices (slices, 1, H, W)."""
        factor = PATCH // VOXELS
        large = F.interpolate(grey, scale_factor=factor, mode="bilinear", align_corners=False)
        images = large.expand(-1, 3, -1, -1)
        if self.inputs.onto[1] == COLOUR:
            images = (images - network.pixel_mean) / network.pixel_std
        return images


def decoded(network: Any, embedding: torch.Tensor) -> torch.Tensor:
    """Return the mask decoder's map (n, channels / 8, 4 x tokens, 4 x tokens), without a prompt."""
    return answers(network, embedding, network.mask_decoder.mask_tokens.weight)[1]


def answers(
    network: Any, embedding: torch.Tensor, asked: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Let tokens and images look at each other, as in SAM's mask decoder without a prompt.

    Shape: embedding (n, channels, tokens, tokens), asked (masks, channels)
        -> (n, masks, channels), (n, channels / 8, 4 x tokens, 4 x tokens); a mask's log-odds are
        the product of its weights and the map.
    """
    decoder, prompts = network.mask_decoder, network.prompt_encoder
    count = len(embedding)
    every = torch.cat([decoder.iou_token.weight, asked]).expand(count, -1, -1)
    source = embedding + prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
    places = prompts.get_dense_pe().expand(count, -1, -1, -1)
    told, seen = decoder.transformer(source, places, every)
    return told[:, 1:], decoder.output_upscaling(seen.mT.reshape(source.shape))
