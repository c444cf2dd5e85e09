"""Rows of tables of results: which systems there are and what kind each is of, and the names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from cocktail.types import NO_CLASS

Kind = Literal["model", "reading", "control"]
"""What a row's system is: the model itself, what its weights say if they are read otherwise, or no model's answer."""
MODEL, READING, CONTROL = "model", "reading", "control"
COMMON_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("mixture_id", pa.string()),
    ("system", pa.string()),
    ("kind", pa.string()),
    ("reading", pa.string()),
    ("source", pa.int32()),
    ("recording", pa.string()),
    ("num_sources", pa.int32()),
    ("class_id", pa.int32()),
    ("label_ids", pa.list_(pa.int32())),
]
"""Columns of any results. Whose a row is: a name for tables, the Kind, and a reading's name among those of its model,
null for others. What its source is: its place in the mixture, the recording that it was cut out of, null where nobody
said, the number of the mixture's sources, its class, NO_CLASS of one of several, and all of its classes, null where
nobody said."""
TASK_KEY = b"cocktail.task"
"""Key of the name of their task in the metadata of results."""
UNLABELLED = "unlabelled"
"""Stands for the class of a source without one."""


def systems_of(results: pa.Table, kind: Kind | None = None) -> list[str]:
    """The systems in a table of results, or those of one kind, in order."""
    rows = results if kind is None else rows_of(results, "kind", [kind])
    return rows["system"].unique().to_pylist()


def readings_of(results: pa.Table) -> dict[str, str]:
    """The readings of a model in its results: their names among the model's, by the system's."""
    rows = rows_of(results, "kind", [READING])
    return dict(zip(rows["system"].to_pylist(), rows["reading"].to_pylist(), strict=True))


def class_name(classes: Sequence[str], class_id: int) -> str:
    """The name of a class; its number where the names are not known."""
    if class_id == NO_CLASS:
        return UNLABELLED
    return classes[class_id] if class_id < len(classes) else f"class {class_id}"


def label_column(class_ids: np.ndarray, labels: np.ndarray | None) -> list[list[int] | None]:
    """All classes of each source of class ids [B, N] and, where a batch says them, labels bool [B, N or more, C]."""
    B, N = class_ids.shape
    if labels is not None:
        return [np.flatnonzero(labels[b, n]).tolist() or None for b in range(B) for n in range(N)]
    return [None if class_id == NO_CLASS else [class_id] for class_id in class_ids.flatten().tolist()]


def label_sets(rows: pa.Table) -> list[set[int] | None]:
    """All classes of each row's source; None where nobody said. Results of earlier versions have one class or none."""
    alone = [None if class_id in (None, NO_CLASS) else {class_id} for class_id in rows["class_id"].to_pylist()]
    if "label_ids" not in rows.column_names:
        return alone
    return [own if ids is None else set(ids) for own, ids in zip(alone, rows["label_ids"].to_pylist(), strict=True)]


def recording_column(recordings: Sequence[Sequence[str]] | None, B: int, N: int) -> list[str | None]:
    """The recording of each source of B mixtures of N, of those that a batch says; None where it says none."""
    return [None] * (B * N) if recordings is None else [name for names in recordings for name in names[:N]]


def rows_of(results: pa.Table, column: str, values: list[str]) -> pa.Table:
    """The rows with one of the values in a column, in order: by a mask, as filters by expression promise no order."""
    return results.filter(pc.is_in(results[column], pa.array(values, pa.string())))  # pyright: ignore[reportAttributeAccessIssue]


def names_of(class_ids: Tensor, classes: Sequence[str], labels: Tensor | None = None) -> list[str]:
    """Names of the classes [N], of a source of several all of them, by labels bool [N, C]; sources without one are
    numbered."""
    several = [[]] * len(class_ids) if labels is None else [each.nonzero()[:, 0].tolist() for each in labels]
    alone = [[own] if own >= 0 else [] for own in class_ids.tolist()]
    return [
        " + ".join(class_name(classes, i) for i in ids or own) or f"source {n + 1}"
        for n, (own, ids) in enumerate(zip(alone, several, strict=True))
    ]
