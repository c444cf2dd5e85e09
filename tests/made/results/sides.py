"""Sides of a comparison, with results written by hand."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from cocktail.studies.comparison import Side
from cocktail.studies.scored_run import ScoredRun
from cocktail.tasks.separation.results import RESULTS
from cocktail.tasks.separation.tables import SCORES
from tests.made.results.systems import columns_of

Scores = dict[str, tuple[float | None, ...]]
"""By mixture id, a score in dB of each source; None: its reference is silent."""


def side(
    letter: str, scores: Scores, system: str = "model", recordings: Mapping[str, str] | None = None, **known
) -> Side:
    run = ScoredRun(results=results(system, scores, recordings), name=f"run-{letter}", **{"stored": "x", **known})
    return Side.of(letter, run, system)


def results(system: str, scores: Scores, recordings: Mapping[str, str] | None = None) -> pa.Table:
    """Each source is of a recording of its own, unless `recordings` has one for each mixture."""
    rows = [
        {
            "mixture_id": mixture_id,
            **columns_of(system),
            "source": n,
            "recording": f"{mixture_id}/{n}" if recordings is None else recordings[mixture_id],
            "class_id": n,
            **dict.fromkeys(SCORES, None if None in values else value),
            "silent_reference": value is None,
            "silent_estimate": False,
        }
        for mixture_id, values in scores.items()
        for n, value in enumerate(values)
    ]
    return pa.Table.from_pylist(rows, schema=RESULTS)
