"""Whose a row of results written by hand is."""

from __future__ import annotations

import pyarrow as pa

from cocktail.audio.class_spectra import CLASS_MEAN_BINARY, CLASS_MEAN_WIENER
from cocktail.audio.ideal_masks import (
    IDEAL_BINARY_MASK,
    IDEAL_PHASE_SENSITIVE_MASK,
    IDEAL_RATIO_MASK,
    IDEAL_WIENER_MASK,
)
from cocktail.tasks.localization.results import CENTRED_BOX, CONSTANT_MAP, IDEAL_MAP, SPLIT
from cocktail.types import NO_CLASS

CONTROLS = (CONSTANT_MAP, CENTRED_BOX, IDEAL_MAP)
"""Controls of localization on all pictures side by side."""
IDEAL_MASKS = (IDEAL_BINARY_MASK, IDEAL_RATIO_MASK, IDEAL_WIENER_MASK, IDEAL_PHASE_SENSITIVE_MASK)
"""In the order of results."""
CONTROL_NAMES = (
    *("mixture", CLASS_MEAN_BINARY, CLASS_MEAN_WIENER),
    *(*IDEAL_MASKS, *CONTROLS),
    *(f"{name}, {SPLIT}" for name in CONTROLS),
)


def without_names(results: pa.Table, *systems: str) -> pa.Table:
    """Results of separation in which systems do not say of which class an estimate is, as anonymous ones."""
    anonymous = [NO_CLASS if system in systems else None for system in results["system"].to_pylist()]
    column = results.column_names.index("estimate_class_id")
    return results.set_column(column, results.schema.field(column), pa.array(anonymous, pa.int32()))


def columns_of(system: str) -> dict[str, str | None]:
    """The columns that say whose a row is: tests name a reading `MODEL, READING`."""
    if system in CONTROL_NAMES:
        return {"system": system, "kind": "control", "reading": None}
    _, _, reading = system.partition(", ")
    return {"system": system, "kind": "reading" if reading else "model", "reading": reading or None}
