"""What is asked of a model that separates, and how its answers are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from cocktail.audio.mixing import mix
from cocktail.tasks.separation.results import RESULTS, Metrics, score_batch
from cocktail.types import MixtureBatch, Query, Separation

MIXTURE = "mixture"


@dataclass(frozen=True, kw_only=True)
class Separating:
    """Estimates of the sources, by SDR and its kin.

    Beside the model stand what it says if it is read otherwise (soft masks, classes that it predicts itself) and
    controls: the mixture as every estimate (the floor) and ideal masks on the model's own grid (the ceilings of any
    mask).
    """

    metrics: Metrics = "batched"
    by_fuss_rule: bool = False

    results = RESULTS
    answers_format: Literal["numpy"] = "numpy"

    def apply(self, name: str, model: Any, batch: MixtureBatch) -> dict[str, np.ndarray]:
        return separate_batch(name, model, batch)

    def score(self, answers: Any) -> pa.Table:
        return score_batch(answers, metrics=self.metrics, by_fuss_rule=self.by_fuss_rule)

    def is_scored(self, results: pa.Table) -> np.ndarray:
        return results["sdr"].is_valid().to_numpy()

    def why_not(self, results: pa.Table) -> str:
        return "each has a silent reference"


def separate_batch(name: str, model: Any, batch: MixtureBatch) -> dict[str, np.ndarray]:
    """A batch's references and every system's estimates as columns, cut to the length the inverse gives back.

    `mixture` [B, T'], `references` [B, N, T'], of which the first `num_sources` [B] are there; `estimates/<system>`
    [B, K, T'] for the model, its alternatives and each control; `classes/<system>` [B, K] for all but the controls,
    whose estimates are the references' in their order; `presence` [B, C] and `vectors` [B, N, D] where there are any.
    """
    device = next(model.parameters()).device
    on_device = batch.to(device)
    mixture, references = mix(on_device)
    separation = model.separate(mixture, Query.of(on_device))
    systems: dict[str, Separation] = {name: separation}
    systems |= {f"{name}, {reading}": found for reading, found in separation.alternatives.items()}
    length = separation.estimates.shape[-1]
    estimates = {system: found.estimates for system, found in systems.items()}
    estimates |= {ceiling: ideal.estimates for ceiling, ideal in model.oracle(mixture, references).items()}
    estimates[MIXTURE] = mixture[:, None, :length]
    columns = {
        "class_ids": batch.class_ids,
        "num_sources": batch.present.sum(dim=1),
        "mixture": mixture[:, :length],
        "references": references[..., :length],
        **{f"estimates/{system}": values for system, values in estimates.items()},
        **{f"classes/{system}": found.class_ids for system, found in systems.items()},
    }
    for column, looked_at in (("presence", "presence"), ("vectors", "source_vectors")):
        if looked_at in separation.intermediates:
            columns[column] = separation.intermediates[looked_at].float()
    return {"mixture_id": np.array(batch.mixture_ids), **{key: value.cpu().numpy() for key, value in columns.items()}}
