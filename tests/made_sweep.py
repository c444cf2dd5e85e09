"""Sweeps of trials whose results are written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cocktail.metrics.results import RESULTS
from cocktail.report.scored_run import ScoredRun
from cocktail.report.sweep import Sweep
from cocktail.report.tables import SCORES

PAPERS_PARAMS = {
    "model.depth": "6", "model.assignment": "soft", "model.source_vectors": "grouped_tokens", "seed": "0",
    "training.batch_size": "8",
}  # fmt: skip


@dataclass
class MadeRun:
    """What `cocktail.report.sweep.Tracked` asks for."""

    run_id: str
    name: str
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    status: str = "FINISHED"
    seconds: float | None = 90.0
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    scores: list[float | None] | None = None

    def histories(self, prefixes: tuple[str, ...]) -> dict[str, list[tuple[int, float]]]:
        return {name: points for name, points in self.metrics.items() if name.startswith(prefixes)}


def made_trial(
    label: str,
    overrides: Mapping[str, Any],
    scores: Sequence[float | None] | None,
    *,
    status: str | None = "finished",
    metrics: Mapping[str, list[tuple[int, float]]] | None = None,
) -> MadeRun:
    """A trial with an SDR a mixture; other scores are 1 dB more each, in their order. None is a silent reference."""
    tags = {"trial.label": label, "trial.overrides": json.dumps(overrides), "test_list_hash": "abc"}
    if status is not None:
        tags["trial.status"] = status
    params = {**PAPERS_PARAMS, **{path: str(value) for path, value in overrides.items()}}
    run = MadeRun(f"id of {label}", f"run-{label}", tags, params, metrics=dict(metrics or {}))
    run.scores = None if scores is None else list(scores)
    return run


def made_results(model: str, scores: Sequence[float | None]) -> pa.Table:
    """Results of two sources a mixture, of classes 0 and 1: a model's, its soft masks' (1 dB more), the mixture's."""
    rows = []
    for system, shift in ((model, 0.0), (f"{model}, soft masks", 1.0), ("mixture", None)):
        for place, sdr in enumerate(scores):
            value = sdr if sdr is None or shift is not None else 0.0
            for source in range(2):
                rows.append(
                    {
                        "mixture_id": f"{place:016x}",
                        "system": system,
                        "source": source,
                        "num_sources": 2,
                        "class_id": source,
                        **{s: None if value is None else value + i + (shift or 0) for i, s in enumerate(SCORES)},
                        "silent_reference": sdr is None,
                        "silent_estimate": False,
                    }
                )
    return pa.Table.from_pylist(rows, schema=RESULTS)


def made_sweep(grids: list[list[str]], trials: Sequence[MadeRun], **tags: str) -> Sweep:
    """A sweep of these trials."""
    parent = MadeRun("parent id", "made", {"sweep.grid": json.dumps(grids), "sweep.trials": str(len(trials)), **tags})

    def scored(run: MadeRun) -> ScoredRun | None:
        if run.scores is None:
            return None
        results = made_results("sgn", run.scores)
        return ScoredRun(results=results, name=run.name, stored="nowhere", tags=run.tags, params=run.params)

    return Sweep.of(parent, trials, scored)
