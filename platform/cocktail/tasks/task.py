"""What trained models are for: what is asked of them on test mixtures, and how their answers are scored.

Shape letters: B batch, N sources, L estimates of a system, T samples, C classes, D width of vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from cocktail.audio.mixing import mix, superpose
from cocktail.config.experiment import Evaluation
from cocktail.tasks.localization.results import LOCALIZATION_RESULTS, LocalizedMixtures, score_maps
from cocktail.tasks.separation.results import RESULTS, Metrics, score_batch
from cocktail.types import Localizer, MixtureBatch, Separation

MIXTURE = "mixture"


class Task(Protocol):
    """What is asked of a kind of model. Small: travels to any worker."""

    @property
    def results(self) -> pa.Schema:
        """The table of results: rows of a mixture, system and source."""
        ...

    @property
    def answers_format(self) -> Literal["numpy", "pyarrow"]:
        """What `apply` gives: columns, or a table."""
        ...

    def apply(self, name: str, model: Any, batch: MixtureBatch) -> Any:
        """What a model of that name, and every control, answers to a batch."""
        ...

    def score(self, answers: Any) -> pa.Table:
        """The results of what `apply` gave."""
        ...

    def is_scored(self, results: pa.Table) -> np.ndarray:
        """bool [rows]: whether a row has scores."""
        ...

    def why_not(self, results: pa.Table) -> str:
        """Why none has."""
        ...


def task_of(model: Any, evaluation: Evaluation, several_numbers: bool) -> Task:
    """What a model is for, tested as the settings say, on mixtures of one number of sources or of several."""
    if isinstance(model, Localizer):
        return Localizing(peak_share=evaluation.peak_share, fixed_threshold=evaluation.fixed_threshold)
    return Separating(metrics=evaluation.metrics, by_fuss_rule=several_numbers)


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
            pictures = on_device.pictures[rows, :count, 0]
            class_ids = on_device.class_ids[rows, :count]
            found = model.localize(mixture[rows], pictures, class_ids)
            systems = {name: found}
            systems |= {f"{name}, {reading}": other for reading, other in found.alternatives.items()}
            group = LocalizedMixtures(
                mixture_ids=[batch.mixture_ids[row] for row in rows.tolist()],
                class_ids=class_ids,
                truths=on_device.truth[rows, :count],
                has_truth=on_device.has_truth[rows, :count],
                num_pictures=pictures.shape[1],
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


def separate_batch(name: str, model: Any, batch: MixtureBatch) -> dict[str, np.ndarray]:
    """A batch's references and every system's estimates as columns, cut to the length the inverse gives back.

    `mixture` [B, T'], `references` [B, N, T'], of which the first `num_sources` [B] are there; `estimates/<system>`
    [B, K, T'] for the model, its alternatives and each control; `classes/<system>` [B, K] for all but the controls,
    whose estimates are the references' in their order; `presence` [B, C] and `vectors` [B, N, D] where there are any.
    """
    device = next(model.parameters()).device
    on_device = batch.to(device)
    mixture, references = mix(on_device)
    separation = model.separate(mixture, on_device.class_ids)
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
