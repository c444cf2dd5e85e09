"""Results of runs, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from cocktail.tasks.separation.results import RESULTS
from cocktail.tasks.separation.tables import SCORES
from tests.made.results.systems import columns_of


def results(
    systems: Mapping[str, Sequence[float]], names: Sequence[str], class_ids: Sequence[Sequence[int]]
) -> pa.Table:
    """Results of two sources a mixture, both with the system's score of that mixture."""
    rows = [
        {
            "mixture_id": name,
            **columns_of(system),
            "source": n,
            "recording": f"{name}/{n}",
            "num_sources": 2,
            "class_id": ids[n],
            **dict.fromkeys(SCORES, score),
            "silent_reference": False,
            "silent_estimate": False,
        }
        for system, scores in systems.items()
        for name, score, ids in zip(names, scores, class_ids, strict=False)
        for n in range(2)
    ]
    return pa.Table.from_pylist(rows, schema=RESULTS)
