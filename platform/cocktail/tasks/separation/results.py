"""The table of results: how estimates are matched with references, scored and written down, a row a source.

Shape letters: B mixtures, N sources, K estimates of a system, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from cocktail.types import NO_CLASS

Metrics = Literal["batched", "reference"]
"""Who computes SDR, SIR and SAR: our BSS Eval, or mir_eval."""

RESULTS = pa.schema(
    [
        ("mixture_id", pa.string()),
        ("system", pa.string()),
        ("source", pa.int32()),
        ("num_sources", pa.int32()),
        ("class_id", pa.int32()),
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
    ]
)
"""A row a mixture, system and source. Scores, in dB, are null where a reference of the mixture or its sum is silent,
SIR and SI-SDRi in mixtures of one source, too. `estimate` is the place of the source's estimate among the system's. The
fuss columns are null unless mixtures differ in their number of sources; the last two are null but for models that have
classes and vectors, in the rows of the model itself."""


def score_batch(columns: Any, metrics: Metrics, by_fuss_rule: bool) -> pa.Table:
    """Rows of RESULTS for the columns that `separate_batch` gave, mixture by mixture.

    A silent reference, or a mixture that cancels out, takes the mixture out of the scores; a silent estimate is scored
    as a faint mixture, which is worth what doing nothing is worth. Both are marked. A source's estimate is the one of
    its class, or what the order with the best mean SIR gives it.
    """
    names = [column.removeprefix("estimates/") for column in columns if column.startswith("estimates/")]
    model = next(name for name in names if f"classes/{name}" in columns)  # comes first
    counts = columns["num_sources"]
    # Copies: what comes out of Ray's memory must not be written to, and torch would warn of that.
    signals = {name: torch.from_numpy(np.array(columns[f"estimates/{name}"])) for name in names}
    mixtures, references = (torch.from_numpy(np.array(columns[name])) for name in ("mixture", "references"))
    tables = []
    for count in np.unique(counts):
        chosen = np.flatnonzero(counts == count)
        silent = is_silent(references[chosen, :count]).any(dim=1) | is_silent(mixtures[chosen])
        usable = ~silent.numpy()
        for rows, scored in ((chosen[usable], True), (chosen[~usable], False)):
            if len(rows):
                picked = {name: signals[name][rows] for name in names}
                group = _Group(columns, rows, int(count), mixtures[rows], references[rows, :count], picked)
                scores = _score_group(group, metrics) if scored else {}
                fuss = {name: group.by_fuss_rule(name) for name in names} if by_fuss_rule else {}
                tables += [_rows(group, name, scores.get(name), fuss.get(name), name == model) for name in names]
    return pa.concat_tables(tables)


@dataclass(frozen=True)
class _Group:
    """Mixtures of a batch with as many sources each."""

    columns: Mapping[str, np.ndarray]
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
        return torch.from_numpy(self.columns["class_ids"][self.rows, : self.count].astype(np.int64))

    def estimate_classes(self, system: str) -> Tensor | None:
        """[B, K]; None if the estimates are known to be the references', in order."""
        if f"classes/{system}" not in self.columns:
            return None
        return torch.from_numpy(self.columns[f"classes/{system}"][self.rows].astype(np.int64))

    def by_fuss_rule(self, system: str) -> FussScores:
        estimates = self.estimates[system]
        if estimates.shape[1] < self.count:  # one estimate for all, the mixture
            estimates = estimates.expand(-1, self.count, -1)
        return fuss_scores(self.references, estimates, self.mixture)


@dataclass(frozen=True)
class _Scores:
    """Of a system's estimates as matched with the references; tensors are [B, N]."""

    estimate: Tensor
    silent: Tensor
    values: dict[str, Tensor]


def _score_group(group: _Group, metrics: Metrics) -> dict[str, _Scores]:
    """The scores of all systems; they share what depends on the references alone."""
    names = list(group.estimates)
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
    for name in names:
        end = begin + group.estimates[name].shape[1]
        own = {score: clip_db(values[:, begin:end]) for score, values in pairs.items()}
        begin = end
        silent = replaced[name][1]
        estimate = _matched(group, name, own["sir"], silent)
        values = {score: table.gather(1, estimate[:, None])[:, 0] for score, table in own.items()}
        values["si_sdri"] = values["si_sdr"] - unprocessed
        if group.count == 1:  # there is nothing to interfere, and the mixture is the source
            del values["sir"], values["si_sdri"]
        scored[name] = _Scores(estimate, silent.gather(1, estimate), values)
    return scored


def _matched(group: _Group, system: str, sir: Tensor, silent: Tensor) -> Tensor:
    """Which estimate is whose, int64 [B, N], by the SIR [B, K, N] of every pair."""
    classes = group.estimate_classes(system)
    if classes is None:
        positions = torch.arange(group.count).clamp(max=sir.shape[1] - 1)
        return positions.expand(len(sir), -1)
    if sir.shape[1] > group.count:  # of more estimates than sources, one that was not made is taken last
        sir = sir.masked_fill((silent & (classes == NO_CLASS))[..., None], -LIMIT_DB)
    return torch.stack([match(*each) for each in zip(group.class_ids, classes, sir, strict=True)])


def _rows(group: _Group, system: str, scores: _Scores | None, fuss: FussScores | None, is_model: bool) -> pa.Table:
    """A system's rows of RESULTS."""
    B, N = len(group.rows), group.count
    columns: dict[str, Any] = {
        "mixture_id": np.repeat(group.columns["mixture_id"][group.rows], N),
        "system": [system] * (B * N),
        "source": np.tile(np.arange(N), B),
        "num_sources": np.full(B * N, N),
        "class_id": group.class_ids.flatten().numpy(),
        "silent_reference": is_silent(group.references).flatten().numpy(),
    }
    if scores is not None:
        classes = group.estimate_classes(system)
        columns["estimate"] = scores.estimate.flatten().numpy()
        columns["silent_estimate"] = scores.silent.flatten().numpy()
        columns |= {score: values.flatten().numpy() for score, values in scores.values.items()}
        own = group.class_ids if classes is None else classes.gather(1, scores.estimate)
        columns["estimate_class_id"] = own.flatten().numpy()
    if fuss is not None:
        columns["fuss_si_sdr"], columns["fuss_si_sdri"] = fuss.si_sdr.flatten().numpy(), fuss.si_sdri.flatten().numpy()
        columns["fuss_active_pair"] = fuss.active_pair.flatten().numpy()
        columns["fuss_active_references"] = fuss.num_active_references.repeat_interleave(N).numpy()
        columns["fuss_active_estimates"] = fuss.num_active_estimates.repeat_interleave(N).numpy()
    if is_model and "presence" in group.columns:
        present = [np.flatnonzero(values > 0.5) for values in group.columns["presence"][group.rows]]
        columns["predicted_classes"] = [classes for classes in present for _ in range(N)]
    if is_model and "vectors" in group.columns and scores is not None:
        vectors = group.columns["vectors"][group.rows]
        columns["source_vector"] = list(
            np.take_along_axis(vectors, scores.estimate.numpy()[..., None], 1).reshape(B * N, -1)
        )
    return pa.table(
        {f.name: pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(B * N, f.type) for f in RESULTS},
        schema=RESULTS,
    )
