"""The table of results: how estimates are matched with references, scored and written down, a row a source.

Shape letters: B mixtures, N sources, K estimates of a system, T samples, C classes, D width of vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from cocktail.metrics.bss_eval import BssScores, bss_eval_pairs
from cocktail.metrics.fuss import FussScores, fuss_scores
from cocktail.metrics.separation import (
    LIMIT_DB,
    clip_db,
    is_silent,
    match,
    reference_bss_eval,
    replace_silent,
    si_sdr,
    si_sdr_pairs,
)
from cocktail.tasks.rows import COMMON_COLUMNS, MODEL, TASK_KEY, Kind, label_column, recording_column
from cocktail.types import NO_CLASS

Metrics = Literal["batched", "reference"]
"""Who computes SDR, SIR and SAR: our BSS Eval, or mir_eval."""

RESULTS = pa.schema(
    [
        *COMMON_COLUMNS,
        ("estimate", pa.int32()),
        ("estimate_class_id", pa.int32()),
        ("sdr", pa.float64()),
        ("sir", pa.float64()),
        ("sar", pa.float64()),
        ("si_sdr", pa.float64()),
        ("si_sdri", pa.float64()),
        ("silent_reference", pa.bool_()),
        ("silent_estimate", pa.bool_()),
        ("fuss_si_sdr", pa.float64()),
        ("fuss_si_sdri", pa.float64()),
        ("fuss_active_pair", pa.bool_()),
        ("fuss_active_references", pa.int32()),
        ("fuss_active_estimates", pa.int32()),
        ("predicted_classes", pa.list_(pa.int32())),
        ("source_vector", pa.list_(pa.float32())),
        ("seen", pa.bool_()),
        ("visual_classes", pa.list_(pa.int32())),
        ("source_presence", pa.list_(pa.float32())),
    ],
    metadata={TASK_KEY: b"separation"},
)
"""A row a mixture, system and source. Scores, in dB, are null where a reference of the mixture or its sum is silent,
SIR and SI-SDRi in mixtures of one source, too. `estimate` is the place of the source's estimate among the system's,
`estimate_class_id` the class that the system gives it, null of a system whose estimates are in the order of the
sources. The fuss columns are null unless mixtures differ in their number of sources. `seen` is whether pictures showed
the source, null where there were none. What a model says is in its own rows alone, and null of one that does not say
it: classes that it hears, a source's vector, classes that it sees and hears, and the probability of each class in a
source by itself."""


@dataclass(frozen=True, kw_only=True)
class System:
    """What a system makes of the mixtures of a batch."""

    name: str
    kind: Kind
    estimates: np.ndarray
    """[B, K, T]; one estimate stands for all sources."""
    class_ids: np.ndarray | None = None
    """[B, K]; None if the estimates are known to be the references', in order."""
    reading: str | None = None
    """The name of a reading among those of its model."""
    answered: np.ndarray | None = None
    """bool [B]: which mixtures it has an answer to, and rows of results of; None if it has one to all."""


@dataclass(frozen=True, kw_only=True)
class SeparatedBatch:
    """A batch of B mixtures and what every system makes of it; all sounds are of one length."""

    mixture_ids: np.ndarray
    """[B]."""
    class_ids: np.ndarray
    """[B, N]."""
    num_sources: np.ndarray
    """[B]."""
    mixture: np.ndarray
    """[B, T]."""
    references: np.ndarray
    """[B, N, T], of which the first `num_sources` are there."""
    systems: tuple[System, ...]
    """The model itself first."""
    seen: np.ndarray | None = None
    """bool [B, N]: which sources the pictures show; None without pictures."""
    recordings: tuple[tuple[str, ...], ...] | None = None
    """B times N names, as those of a `MixtureBatch`."""
    presence: np.ndarray | None = None
    """[B, C], the probability of each class by the model, where it has any."""
    visual_presence: np.ndarray | None = None
    """[B, C], the probability of each class being seen and heard, by a model that says so."""
    presence_threshold: float = 0.5
    """Probability above which the model takes a class to be there."""
    vectors: np.ndarray | None = None
    """[B, N, D], what stands for each source of the model, where there is any."""
    source_presence: np.ndarray | None = None
    """[B, N, C], the probability of each class in each source by itself, where the model has any."""
    labels: np.ndarray | None = None
    """bool [B, N, C], all classes of each source, as those of a `MixtureBatch`."""


def score_batch(batch: SeparatedBatch, metrics: Metrics, by_fuss_rule: bool) -> pa.Table:
    """Rows of RESULTS for the mixtures of a batch.

    A silent reference, or a mixture that cancels out, takes the mixture out of the scores; a silent estimate is scored
    as a faint mixture, which is worth what doing nothing is worth. Both are marked. A source's estimate is the one of
    its class, or what the order with the best mean SIR gives it.
    """
    signals = {system.name: torch.from_numpy(system.estimates) for system in batch.systems}
    mixtures, references = torch.from_numpy(batch.mixture), torch.from_numpy(batch.references)
    tables = []
    for count in np.unique(batch.num_sources):
        chosen = np.flatnonzero(batch.num_sources == count)
        silent = is_silent(references[chosen, :count]).any(dim=1) | is_silent(mixtures[chosen])
        usable = ~silent.numpy()
        for rows, scored in ((chosen[usable], True), (chosen[~usable], False)):
            if len(rows):
                picked = {name: signal[rows] for name, signal in signals.items()}
                group = _Group(batch, rows, int(count), mixtures[rows], references[rows, :count], picked)
                scores = _score_group(group, metrics) if scored else {}
                fuss = {name: group.by_fuss_rule(name) for name in signals} if by_fuss_rule else {}
                tables += [_rows(group, each, scores.get(each.name), fuss.get(each.name)) for each in batch.systems]
    return pa.concat_tables(tables)


@dataclass(frozen=True)
class _Group:
    """Mixtures of a batch with as many sources each."""

    batch: SeparatedBatch
    rows: np.ndarray
    """Their places in the batch."""
    count: int
    mixture: Tensor
    """[B, T]."""
    references: Tensor
    """[B, N, T]."""
    estimates: dict[str, Tensor]
    """[B, K, T] by system."""

    @property
    def class_ids(self) -> Tensor:
        return torch.from_numpy(self.batch.class_ids[self.rows, : self.count].astype(np.int64))

    @property
    def recordings(self) -> list[tuple[str, ...]] | None:
        known = self.batch.recordings
        return None if known is None else [known[row] for row in self.rows]

    def estimate_classes(self, system: System) -> Tensor | None:
        """[B, K]; None if the estimates are known to be the references', in order."""
        return None if system.class_ids is None else torch.from_numpy(system.class_ids[self.rows].astype(np.int64))

    def by_fuss_rule(self, name: str) -> FussScores:
        estimates = self.estimates[name]
        if estimates.shape[1] < self.count:  # one estimate for all, the mixture
            estimates = estimates.expand(-1, self.count, -1)
        return fuss_scores(self.references, estimates, self.mixture)


@dataclass(frozen=True)
class _Scores:
    """Scores of a system's estimates as matched with the references; tensors are [B, N]."""

    estimate: Tensor
    silent: Tensor
    values: dict[str, Tensor]


def _score_group(group: _Group, metrics: Metrics) -> dict[str, _Scores]:
    """The scores of all systems; they share what depends on the references alone."""
    systems = group.batch.systems
    names = [system.name for system in systems]
    replaced = {name: replace_silent(group.estimates[name], group.mixture) for name in names}
    together = torch.cat([replaced[name][0] for name in names], dim=1)
    if metrics == "batched":
        bss = bss_eval_pairs(group.references, together)
    else:
        each = [reference_bss_eval(*pair) for pair in zip(group.references, together, strict=True)]
        bss = BssScores(*(torch.stack(scores) for scores in zip(*each, strict=True)))
    pairs = {**bss._asdict(), "si_sdr": si_sdr_pairs(group.references, together)}
    unprocessed = clip_db(si_sdr(group.references, group.mixture[:, None]))
    scored, begin = {}, 0
    for system in systems:
        name = system.name
        end = begin + group.estimates[name].shape[1]
        own = {score: clip_db(values[:, begin:end]) for score, values in pairs.items()}
        begin = end
        silent = replaced[name][1]
        estimate = _matched(group, system, own["sir"], silent)
        values = {score: table.gather(1, estimate[:, None])[:, 0] for score, table in own.items()}
        values["si_sdri"] = values["si_sdr"] - unprocessed
        if group.count == 1:  # there is nothing to interfere, and the mixture is the source
            del values["sir"], values["si_sdri"]
        scored[name] = _Scores(estimate, silent.gather(1, estimate), values)
    return scored


def _matched(group: _Group, system: System, sir: Tensor, silent: Tensor) -> Tensor:
    """Which estimate is whose, int64 [B, N], by the SIR [B, K, N] of every pair."""
    classes = group.estimate_classes(system)
    if classes is None:
        positions = torch.arange(group.count).clamp(max=sir.shape[1] - 1)
        return positions.expand(len(sir), -1)
    if sir.shape[1] > group.count:  # of more estimates than sources, one that was not made is taken last
        sir = sir.masked_fill((silent & (classes == NO_CLASS))[..., None], -LIMIT_DB)
    return torch.stack([match(*each) for each in zip(group.class_ids, classes, sir, strict=True)])


def _rows(group: _Group, system: System, scores: _Scores | None, fuss: FussScores | None) -> pa.Table:
    """A system's rows of RESULTS."""
    (B, N), batch, is_model = (len(group.rows), group.count), group.batch, system.kind == MODEL
    columns: dict[str, Any] = {
        "mixture_id": np.repeat(batch.mixture_ids[group.rows], N),
        "system": [system.name] * (B * N),
        "kind": [system.kind] * (B * N),
        "reading": [system.reading] * (B * N),
        "source": np.tile(np.arange(N), B),
        "recording": recording_column(group.recordings, B, N),
        "num_sources": np.full(B * N, N),
        "class_id": group.class_ids.flatten().numpy(),
        "label_ids": label_column(group.class_ids.numpy(), None if batch.labels is None else batch.labels[group.rows]),
        "silent_reference": is_silent(group.references).flatten().numpy(),
    }
    if scores is not None:
        columns["estimate"] = scores.estimate.flatten().numpy()
        columns["silent_estimate"] = scores.silent.flatten().numpy()
        columns |= {score: values.flatten().numpy() for score, values in scores.values.items()}
        classes = group.estimate_classes(system)
        if classes is not None:
            columns["estimate_class_id"] = classes.gather(1, scores.estimate).flatten().numpy()
    if fuss is not None:
        columns["fuss_si_sdr"], columns["fuss_si_sdri"] = fuss.si_sdr.flatten().numpy(), fuss.si_sdri.flatten().numpy()
        columns["fuss_active_pair"] = fuss.active_pair.flatten().numpy()
        columns["fuss_active_references"] = fuss.num_active_references.repeat_interleave(N).numpy()
        columns["fuss_active_estimates"] = fuss.num_active_estimates.repeat_interleave(N).numpy()
    if batch.seen is not None:
        columns["seen"] = batch.seen[group.rows, :N].flatten()
    for column, values in (("predicted_classes", batch.presence), ("visual_classes", batch.visual_presence)):
        if is_model and values is not None:
            present = [np.flatnonzero(each > batch.presence_threshold) for each in values[group.rows]]
            columns[column] = [classes for classes in present for _ in range(N)]
    if is_model and batch.source_presence is not None:
        columns["source_presence"] = list(batch.source_presence[group.rows, :N].reshape(B * N, -1))
    if is_model and batch.vectors is not None and scores is not None:
        vectors = batch.vectors[group.rows]
        columns["source_vector"] = list(
            np.take_along_axis(vectors, scores.estimate.numpy()[..., None], 1).reshape(B * N, -1)
        )
    table = pa.table(
        {f.name: pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(B * N, f.type) for f in RESULTS},
        schema=RESULTS,
    )
    return table if system.answered is None else table.filter(pa.array(np.repeat(system.answered[group.rows], N)))
