"""Fitting the linear probe on the samples that the two-layer heads are fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import torch  # noqa: TID253

from reglora_core.events import Report
from reglora_core.head import Groups, HeadConfig, Samples, fit_head
from reglora_core.methods.catalogue import method_entry
from reglora_core.methods.heads import LinearHead
from reglora_core.models.base import BaseModel


def fit_probe(
    model: BaseModel,
    groups: Groups,
    pools: Sequence[Samples],
    generator: torch.Generator,
    report: Report,
) -> LinearHead:
    """Fit the linear probe on all of the samples together, the features being frozen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        head = LinearHead(model.widths, groups).to(model.device)
    parts = [(pool.features, pool.targets, pool.is_known) for pool in pools]
    samples = Samples(*(torch.cat(part) for part in zip(*parts, strict=True)))
    head.standardise_by(samples.features)
    rate = method_entry("linear-probe").learning_rate
    config = HeadConfig(learning_rate=rate, weight_decay=0.0)

    def at_step(step: int, loss: float) -> None:
        if step % 10 == 9:
            report("progress", stage="head", step=step + 1, steps=config.steps, loss=loss)

    fit_head(head, samples, config, generator, at_step)
    return head
