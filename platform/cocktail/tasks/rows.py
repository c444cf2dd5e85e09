"""Rows of tables of results, and the names of classes in them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from cocktail.types import NO_CLASS

UNLABELLED = "unlabelled"
"""Stands for the class of a source without one."""


def class_name(classes: Sequence[str], class_id: int) -> str:
    """The name of a class; its number where the names are not known."""
    if class_id == NO_CLASS:
        return UNLABELLED
    return classes[class_id] if classes else f"class {class_id}"


def rows_of(results: pa.Table, column: str, values: list[str]) -> pa.Table:
    """The rows with one of the values in a column, in order: by a mask, as filters by expression promise no order."""
    return results.filter(pc.is_in(results[column], pa.array(values, pa.string())))  # pyright: ignore[reportAttributeAccessIssue]


def names_of(class_ids: Tensor, classes: tuple[str, ...]) -> list[str]:
    """Names of the classes [N]; sources without one are numbered."""
    return [classes[i] if i >= 0 else f"source {n + 1}" for n, i in enumerate(class_ids.tolist())]
