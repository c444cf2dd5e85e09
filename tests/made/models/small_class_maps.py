"""Localizers with a map a class, each built in milliseconds; what they learn by heart, and how well they point then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cocktail.audio.mixing import superpose
from cocktail.layers.two_towers import TowersConfig
from cocktail.metrics.localization import pairwise_average_precision
from cocktail.models.coarse_to_fine import CoarseToFineConfig
from cocktail.models.dsol import DSOLConfig
from cocktail.models.mix_and_localize import MixAndLocalizeConfig
from cocktail.numerics.class_means import ClassMeans
from cocktail.tasks.localization.mixtures import LocalizedMixtures
from cocktail.types import MixtureBatch, Query
from tests.made.corpora.shapes_and_tones import scenes
from tests.made.models.learned_maps import with_locations_that_see_themselves_alone
from tests.made.models.small_avgn import C
from tests.made.models.small_localizers import SIZES

CLASS_MAPS: dict[str, TowersConfig] = {
    "coarse": CoarseToFineConfig(**SIZES, align_width=8),
    "fine": CoarseToFineConfig(**SIZES, align_width=8, stage="fine"),
    "single": DSOLConfig(**SIZES, mask_threshold=0.5),
    "mixtures": DSOLConfig(**SIZES, mask_threshold=0.5, stage="mixtures"),
    "mix_and_localize": MixAndLocalizeConfig(**SIZES, window_seconds=0.4),
}
"""By stage, of those that learn in stages."""
BATCH = scenes([[0, 3], [2, 1], [4, 0]])


def build(name: str, **switches: Any) -> Any:
    """A network whose weights depend on their sizes alone, that has met each class twice."""
    torch.manual_seed(0)
    model = replace(CLASS_MAPS[name], **switches).build(C)
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, ClassMeans):
            vectors = torch.rand(C, 2, module.get_buffer("sums").shape[1], generator=generator)
            module.add(vectors, torch.arange(C)[:, None].expand(C, 2), torch.ones(C, 2, dtype=torch.bool))
    return model


def learned_by_heart(stages: Sequence[str], batch: MixtureBatch) -> tuple[Any, list[tuple[float, float]]]:
    """A model that has learned one batch, stage after stage, and the first and the last loss of each. Its locations see
    nothing beside themselves."""
    weights, losses, model = None, [], None
    for stage in stages:
        torch.manual_seed(0)
        model = with_locations_that_see_themselves_alone(CLASS_MAPS[stage].build(C)).train()
        if weights is not None:
            model.load_state_dict(weights)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
        of_stage = []
        for _ in range(40):
            of_stage.append(model(batch)["total"])
            optimizer.zero_grad()
            of_stage[-1].backward()
            optimizer.step()
        losses.append((of_stage[0].item(), of_stage[-1].item()))
        weights = model.state_dict()
    return model, losses


def pair_scores(model: Any, batch: MixtureBatch) -> Tensor:
    """AP [N, N] of each map (first axis) with each source over the wide picture, the mean over mixtures."""
    return pair_scores_by_mixture(model, batch).mean(dim=0)


def pair_scores_by_mixture(model: Any, batch: MixtureBatch, reading: str | None = None) -> Tensor:
    """The same of each mixture, [B, L, N], by the model's own maps or those of another reading."""
    assert batch.truth is not None and batch.has_truth is not None
    truths = LocalizedMixtures(
        mixture_ids=batch.mixture_ids,
        class_ids=batch.class_ids,
        truths=batch.truth,
        has_truth=batch.has_truth,
        num_pictures=2,
    ).wide_truths
    answer = model.eval().localize(superpose(batch), Query.of(batch))
    maps = (answer if reading is None else answer.alternatives[reading]).maps
    return pairwise_average_precision(maps, truths)
