"""What is asked of a model that localizes, and how its answers are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from cocktail.audio.mixing import superpose
from cocktail.tasks.localization.results import LOCALIZATION_RESULTS, LocalizedMixtures, score_maps
from cocktail.types import MixtureBatch, Query


@dataclass(frozen=True, kw_only=True)
class Localizing:
    """Maps of where the sources are, by AP and IoU.

    Beside the model stand what it says if it is read otherwise (predicted classes, each picture by itself) and
    controls: a constant map, a centred box and the truth.
    """

    peak_share: float = 0.5
    fixed_threshold: float | None = None

    results = LOCALIZATION_RESULTS
    answers_format: Literal["pyarrow"] = "pyarrow"

    def apply(self, name: str, model: Any, batch: MixtureBatch) -> pa.Table:
        """Scored at once, where the maps are: they are far larger than their scores."""
        on_device = batch.to(next(model.parameters()).device)
        assert on_device.pictures is not None
        assert on_device.truth is not None and on_device.has_truth is not None
        mixture, counts = superpose(on_device), batch.present.sum(dim=1)
        tables = []
        for count in counts.unique().tolist():
            rows = torch.nonzero(counts == count).flatten()
            query = Query.of(on_device).rows(rows, count)
            found = model.localize(mixture[rows], query)
            systems = {name: found}
            systems |= {f"{name}, {reading}": other for reading, other in found.alternatives.items()}
            group = LocalizedMixtures(
                mixture_ids=[batch.mixture_ids[row] for row in rows.tolist()],
                class_ids=query.named,
                truths=on_device.truth[rows, :count],
                has_truth=on_device.has_truth[rows, :count],
                num_pictures=query.shown.shape[1],
            )
            settings = {"peak_share": self.peak_share, "fixed_threshold": self.fixed_threshold}
            tables.append(score_maps(group, systems, **settings))
        return pa.concat_tables(tables)

    def score(self, answers: pa.Table) -> pa.Table:
        return answers

    def is_scored(self, results: pa.Table) -> np.ndarray:
        return results["excluded"].is_null().to_numpy()

    def why_not(self, results: pa.Table) -> str:
        of_one = results.filter(pc.field("system") == results["system"][0])
        counts = of_one["excluded"].drop_null().value_counts().to_pylist()
        return ", ".join(f"{count['counts']} sources with {count['values']}" for count in counts)
