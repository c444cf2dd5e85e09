"""Recorded results of runs that nobody made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cocktail.studies.origins import Origin
from cocktail.studies.recorded_results import RecordedResults
from cocktail.studies.scored_run import ScoredRun
from tests.made.results.scored_runs import results


def made_origin(setting: str = "sgn", seed: str = "0", **changed: Any) -> Origin:
    """What made a run of a setting and seed."""
    told: dict[str, Any] = {
        "setting": setting,
        "seed": seed,
        "run": f"{setting}-{seed}",
        "commit": "0123456789" * 4,
        "commands": (f"python jobs/sgn.py music --data SHARDS --seed {seed}",),
        "torch": "2.14.1",
        "date": "2026-01-31",
        "machine": "2 cores",
        "steps": 300,
        "batch_size": 8,
        "seconds": 90.0,
        "data": "f00d",
        "trained_on": "feed",
        "initial_weights": "random weights",
    }
    return Origin(**{**told, **changed})


def made_run(
    systems: Mapping[str, Sequence[float]], *, first: int = 0, params: Mapping[str, str] | None = None
) -> ScoredRun:
    """A run's scores by system and mixture; mixtures are numbered from a first one."""
    count = len(next(iter(systems.values())))
    names = [f"{first + n:016x}" for n in range(count)]
    table = results(systems, names, [[0, 1]] * count)
    return ScoredRun(results=table, name="made", stored="nowhere", params=params or {})


def made_recorded(reference: str | None = None) -> RecordedResults:
    """Two settings on three mixtures: `sgn` of two seeds, `static` of one, and the controls of either."""
    first = {"sgn": [4, 5, 6], "sgn, soft masks": [6, 7, 8], "mixture": [0, 0, 0]}
    second = {"sgn": [6, 7, 8], "sgn, soft masks": [8, 9, 10], "mixture": [1, 1, 1]}
    static = {"static": [1, 2, 3], "mixture": [0, 0, 0]}
    runs = [
        (made_origin("sgn", "0"), made_run(first)),
        (made_origin("sgn", "1", seconds=120.0), made_run(second)),
        (made_origin("static", "0"), made_run(static)),
    ]
    return RecordedResults.of(runs, reference)
