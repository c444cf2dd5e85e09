"""Boxes as plans carry them: columns of Arrow, never objects. A video of MUSIC has thousands, a picture a few.

Shape letters: R clips of a plan's rows, one after the other.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cocktail.types import NO_CLASS
from pipelines.plans.pool import list_array

NO_SOURCE = -2
"""A class id that no source has."""
TRUTH = ("boxes", "mask_offset", "mask_bytes", "mask_check")
"""Columns of plans that say where sources are."""


def boxes_of_pictures(boxes: pa.ListArray, clips: np.ndarray, pictures: np.ndarray) -> pa.ListArray:
    """The boxes of one picture of each clip: of `boxes`, a list a clip, for clips [R] and their pictures [R].

    An empty list stays one: somebody looked, and nothing was left. Null are the boxes of a clip without a list, and of
    a picture without a box on a clip that has some.
    """
    counts = pc.list_value_length(boxes).fill_null(0).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    values = boxes.flatten()
    numbers = values.field("picture").to_numpy().astype(np.int64)
    apart = max(int(numbers.max(initial=0)), int(pictures.max(initial=0))) + 1
    keys = np.repeat(np.arange(len(boxes)), counts) * apart + numbers
    order = np.argsort(keys, kind="stable")
    wanted = clips * apart + pictures
    begins, ends = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
    offsets = np.concatenate([[0], np.cumsum(ends - begins)])
    places = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], ends - begins)
    unknown = ~boxes.is_valid().to_numpy(zero_copy_only=False)[clips] | ((counts[clips] > 0) & (begins == ends))
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), values.take(pa.array(order[places])), mask=pa.array(unknown)
    )


def in_class_ids(column: pa.ChunkedArray, own: np.ndarray) -> pa.Array:
    """A plan's column of boxes in other class ids: class c becomes `own[c]`, and NO_SOURCE if that is NO_CLASS."""
    rows = list_array(column)
    clips = rows.flatten()
    boxes = clips.flatten()
    ids = pa.array(np.where(own == NO_CLASS, NO_SOURCE, own).astype(np.int32)).take(boxes.field("class_id"))
    parts = [ids if field.name == "class_id" else boxes.field(field.name) for field in boxes.type]
    changed = pa.StructArray.from_arrays(parts, fields=list(boxes.type))
    counts = pc.list_value_length(clips).fill_null(0).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    return pa.ListArray.from_arrays(rows.offsets, pa.ListArray.from_arrays(offsets, changed, mask=clips.is_null()))


def without_truth(plan: pa.Table) -> pa.Table:
    """A plan in which nobody says where the sources are; as it is if it has no columns for it."""
    for name in TRUTH:
        if name in plan.column_names:
            lists = list_array(plan[name])
            nothing = pa.ListArray.from_arrays(lists.offsets, pa.nulls(len(lists.flatten()), lists.type.value_type))
            plan = plan.set_column(plan.column_names.index(name), name, nothing)
    return plan
