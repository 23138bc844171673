"""SAM's own mask decoder with a token per organ, fitted on the annotated slices.

In the decoder (Kirillov et al., arXiv 2304.02643, appendix A) the tokens of masks and the image's
embedding look at each other; a small network then turns each token into weights of its map:

    log-odds of mask k = MLP_k(token_k) . map

Here every organ has a token and the last layer of its MLP, both at first those of SAM's first
mask. All else is SAM's, and frozen, but for the low-rank updates that `arena-mask-decoder` trains
in the image encoder together with them. An organ alone is a sigmoid; those that exclude each other
have one softmax with a background whose log-odds are zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

from reglora_core.events import Report
from reglora_core.features import maps_around, sample_maps
from reglora_core.head import Groups, Head, HeadConfig, organ_loss
from reglora_core.methods.heads import with_backgrounds
from reglora_core.models.base import BaseModel
from reglora_core.models.sam import answers
from reglora_core.models.slices import as_stack, as_volume
from reglora_core.samples import Painting, Voxels

POINTS = 4096  # of one slice in one step


class MaskHead(Head):
    """A token and the last layer of a hypernetwork per organ; the rest is the network's decoder.

    Args:
        model: a SAM; stays as it is.
        groups: organ indices per group.
    """

    def __init__(self, model: BaseModel, groups: Groups) -> None:
        nn.Module.__init__(self)
        self.model, self.widths, self.groups = model, model.widths, groups
        decoder: Any = model.network.mask_decoder
        first, count = decoder.output_hypernetworks_mlps[0].layers[-1], sum(map(len, groups))
        self.tokens = nn.Parameter(decoder.mask_tokens.weight.detach()[:1].repeat(count, 1))
        self.weight = nn.Parameter(first.weight.detach().repeat(count, 1, 1))
        self.bias = nn.Parameter(first.bias.detach().repeat(count, 1))

    def twin(self) -> MaskHead:
        other = MaskHead(self.model, self.groups).to(self.tokens.device)
        other.load_state_dict(self.state_dict())
        return other.eval()

    def masks(self, embedding: Tensor) -> Tensor:
        """Return log-odds (n, organs, 4 x tokens, ...) of embeddings (n, channels, tokens, ...)."""
        network: Any = self.model.network
        hidden, seen = answers(network, embedding, self.tokens)
        for layer in network.mask_decoder.output_hypernetworks_mlps[0].layers[:-1]:
            hidden = F.relu(layer(hidden))
        weights = torch.einsum("kmc,nkc->nkm", self.weight, hidden) + self.bias
        return torch.einsum("nkm,nmhw->nkhw", weights, seen)

    def volume(self, embedding: Tensor) -> Tensor:
        """Return log-odds (1, organs, D, H, W) of a window's embedding, both canonical."""
        axis = self.model.slice_axis
        assert axis is not None
        slices = as_stack(embedding.float(), axis)[0].transpose(0, 1)
        return as_volume(self.masks(slices).transpose(0, 1)[None], axis)

    def at(self, embedding: Tensor, places: Tensor) -> Tensor:
        """Return logits (n, outputs) at places (n, 3) in a window, in shares of it."""
        return with_backgrounds(sample_maps([self.volume(embedding)], places), self.groups)

    def on_maps(self, maps: list[Tensor]) -> Tensor:
        """Return probabilities (outputs, D, H, W) of a window's feature maps."""
        odds = self.volume(maps[0])[0]
        logits = with_backgrounds(odds.flatten(1).T, self.groups)
        return self.probabilities(logits).T.reshape(-1, *odds.shape[1:])


def matched_tokens(head: MaskHead, earlier: MaskHead, rows: Sequence[int | None]) -> MaskHead:
    """Return a head with the tokens and layers that an earlier one has in these rows.

    Rows go as the groups list their organs; where there is None, the head's own stays.
    """
    matched = head.twin()
    with torch.no_grad():
        for own, known in zip(matched.parameters(), earlier.parameters(), strict=True):
            for row, source in enumerate(rows):
                if source is not None:
                    own[row] = known[source]
    return matched


def mask_head_from_state(model: BaseModel, groups: Groups, state: Mapping[str, Tensor]) -> MaskHead:
    """Return a head that was saved.

    Raises:
        RuntimeError: the tensors are not those of such a head.
    """
    head = MaskHead(model, groups)
    head.load_state_dict({key: value.float() for key, value in state.items()})
    return head


@dataclass(frozen=True)
class PaintedSlice:
    """A window's embedding (1, channels, D, H, W) and annotated voxels in shares of it (n, 3)."""

    embedding: Tensor
    voxels: Voxels


def slices_around(
    model: BaseModel, paintings: Sequence[Painting], draws: Sequence[Voxels], report: Report
) -> list[PaintedSlice]:
    """Return the slices that hold the voxels drawn of each painting, by one pass each.

    The report is told of each, and may raise to stop.
    """
    axis = model.slice_axis
    assert axis is not None
    expected = sum(len(set(voxels.points[:, axis].int().tolist())) for voxels in draws)
    found: list[PaintedSlice] = []
    for painting, voxels in zip(paintings, draws, strict=True):
        for own, places, maps in maps_around(model, painting.scan.inside, voxels.points):
            here = Voxels(places, voxels.targets[own], voxels.is_known[own])
            found.append(PaintedSlice(maps[0], here))
            report("progress", stage="head", step=len(found), steps=max(expected, len(found)))
    return found


def fit_masks(
    head: MaskHead,
    slices: Sequence[PaintedSlice],
    config: HeadConfig,
    generator: torch.Generator,
    report: Report,
) -> MaskHead:
    """Fit a head to annotated slices, one per step, and return it in eval mode.

    Of the config, steps and learning rate count.
    """
    device, steps, rate = head.model.device, config.steps, config.learning_rate
    head.to(device).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    sizes = torch.tensor([len(one.voxels.points) for one in slices], dtype=torch.float)
    for step in range(steps):
        one = slices[int(torch.multinomial(sizes, 1, generator=generator))]
        index = torch.randint(len(one.voxels.points), (POINTS,), generator=generator)
        drawn = one.voxels[index]
        logits = head.at(one.embedding, drawn.points)
        loss = organ_loss(head, logits, drawn.targets.to(device), drawn.is_known.to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 10 == 9:
            report("progress", stage="head", step=step + 1, steps=steps, loss=float(loss.detach()))
    return head.eval()
