"""Sweeps of trials whose results are written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cocktail.studies.paper import Paper
from cocktail.studies.scored_run import ScoredRun
from cocktail.studies.sweep import Sweep
from cocktail.tasks.localization.results import LOCALIZATION_RESULTS
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.separation.results import RESULTS
from cocktail.tasks.separation.tables import SCORES
from cocktail.types import UsageError
from tests.made.results.localized_results import by_rules
from tests.made.results.systems import columns_of

PAPERS_PARAMS = {
    "model.depth": "6", "model.assignment": "soft", "model.source_vectors": "grouped_tokens", "seed": "0",
    "training.batch_size": "8",
}  # fmt: skip


@dataclass
class MadeRun:
    """What `cocktail.studies.trial.Tracked` asks for."""

    run_id: str
    name: str
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    status: str = "FINISHED"
    seconds: float | None = 90.0
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    scores: list[float | None] | None = None
    earlier_stages: list[MadeRun] = field(default_factory=list)
    results: pa.Table | None = None
    """In place of results of separation."""

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
                        **columns_of(system),
                        "source": source,
                        "recording": f"{place}/{source}",
                        "num_sources": 2,
                        "class_id": source,
                        **{s: None if value is None else value + i + (shift or 0) for i, s in enumerate(SCORES)},
                        "silent_reference": sdr is None,
                        "silent_estimate": False,
                    }
                )
    return pa.Table.from_pylist(rows, schema=RESULTS)


def made_localization(ious: Mapping[int, Sequence[float | None]], rules: ScoringRules | None = None) -> pa.Table:
    """Results by number of sources of a model, its split reading and the constant map, which has AP 0.25 and IoU 0.125.

    An IoU a mixture; a reading's is half of the model's; AP is half of the IoU. None has no truth.
    """
    rows = []
    for system, share in (("avgn", 1.0), ("avgn, split", 0.5), ("constant map", None)):
        for number, values in ious.items():
            for place, value in enumerate(values):
                iou = None if value is None else 0.125 if share is None else value * share
                ap = None if iou is None else 0.25 if share is None else iou / 2
                rows += [
                    {
                        "mixture_id": f"{number}{place:015x}",
                        **columns_of(system),
                        "source": source,
                        "recording": f"{place}/{source}",
                        "num_sources": number,
                        "class_id": source,
                        "ap": ap,
                        "ap_best_order": ap,
                        "iou_peak": iou,
                        "iou_half": iou,
                        "excluded": "no truth" if value is None else None,
                    }
                    for source in range(number)
                ]
    return by_rules(pa.Table.from_pylist(rows, schema=LOCALIZATION_RESULTS), rules or ScoringRules())


def localized_trial(
    label: str,
    overrides: Mapping[str, Any],
    ious: Mapping[int, Sequence[float | None]] | None,
    rules: ScoringRules | None = None,
) -> MadeRun:
    """A trial of a model that localizes."""
    status = "finished" if ious else "failed: OutOfMemoryError"
    trial = made_trial(label, overrides, None, status=status, metrics={"loss/total": [(1, 2.0), (10, 1.0)]})
    trial.results = made_localization(ious, rules) if ious else None
    return trial


def made_sweep(grids: list[list[str]], trials: Sequence[MadeRun], paper: Paper | None = None, **tags: str) -> Sweep:
    """A sweep of these trials, with the paper that it recorded."""
    parent = MadeRun("parent id", "made", {"sweep.grid": json.dumps(grids), "sweep.trials": str(len(trials)), **tags})

    def scored(run: MadeRun) -> ScoredRun | None:
        results = made_results("sgn", run.scores) if run.scores is not None else run.results
        if results is None:
            return None
        return ScoredRun(results=results, name=run.name, stored="nowhere", tags=run.tags, params=run.params)

    return Sweep.of(parent, trials, scored, paper)


def never(*_: Any) -> Any:
    raise UsageError("it is gone")


def cells(text: str, first: str, heading: str) -> list[str]:
    """The line of a table under a heading that begins with a cell."""
    section = text[text.index(heading) :]
    line = next(line for line in section.splitlines() if line.startswith(f"| {first} "))
    return [cell.strip() for cell in line.strip("|").split("|")]
