"""Results of localization, written by hand."""

from __future__ import annotations

import pyarrow as pa

from cocktail.tasks.localization.results import LOCALIZATION_RESULTS
from cocktail.tasks.localization.rules import ScoringRules
from tests.made.results.systems import columns_of


def mixture(mixture_id: str, *sources: dict, system: str = "model", **told) -> list[dict]:
    """A mixture's rows; `iou` of a source is that by peak; by half it is a half, by fixed a quarter of it."""
    return [
        {
            "mixture_id": mixture_id,
            **columns_of(system),
            "source": n,
            "recording": f"{mixture_id}/{n}",
            "num_sources": len(sources),
            "class_id": n,
            "iou_peak": (iou := source.pop("iou", None)),
            "iou_half": None if iou is None else iou / 2,
            "iou_fixed": None if iou is None else iou / 4,
            **told,
            **source,
        }
        for n, source in enumerate(sources)
    ]


def table(*mixtures: list[dict]) -> pa.Table:
    """Results by the common rules."""
    rows = [row for rows in mixtures for row in rows]
    return by_rules(pa.Table.from_pylist(rows, schema=LOCALIZATION_RESULTS), ScoringRules())


def by_rules(results: pa.Table, rules: ScoringRules) -> pa.Table:
    """Results whose metadata say that they came about by rules."""
    return results.replace_schema_metadata({**results.schema.metadata, **rules.metadata})


def source(ap: float | None = None, best: float | None = None, iou: float | None = None, **more) -> dict:
    return {"ap": ap, "ap_best_order": ap if best is None else best, "iou": iou, **more}
