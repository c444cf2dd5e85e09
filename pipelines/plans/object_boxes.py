"""Pictures cut to the box of an object, in place of what a detector would find: boxes out of the shards' index files.

The part that is shown changes a mixture's id and its pictures, and nothing else of it.

Shape letters: R mixtures, N most sources of a mixture, P pictures of a source, X lists of boxes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cocktail.types import UsageError
from pipelines.plans.boxes import boxes_of_pictures, without_truth
from pipelines.plans.draws import NOBODY, Draws
from pipelines.plans.pool import ClipPool, list_array
from pipelines.plans.random_numbers import fold
from pipelines.plans.rows import lists_of, states_of, with_ids

_CUT = xxhash.xxh3_64_intdigest(b"cut to boxes")
"""What is folded into a mixture's id before the parts of its pictures that it shows."""
_CORNERS = ("x0", "y0", "x1", "y1")


def clips_with_boxes(pool: ClipPool) -> int:
    """Clips of a pool with a box of their class in some picture. Raises UsageError if there are none."""
    boxes = list_array(pool.table["boxes"])
    owners, _ = _parts(boxes, pool.class_id)
    if not len(owners):
        raise UsageError(
            f"{pool.manifest.folder} has no box of a clip's own class to cut pictures to ({pool.split}): make shards "
            "with boxes, as jobs/shard_music.py --boxes does, or leave --mixing.picture-part at whole"
        )
    return len(owners)


def with_parts_shown(plan: pa.Table, pool: ClipPool, draws: Draws, pictures: np.ndarray) -> pa.Table:
    """A plan of draws whose pictures, int64 [R, N, P], are cut as `mixing.picture_part` says: with `part`, a list a
    source of the left, upper, right and lower end of what is shown of each picture, as shares of its sides; as it is if
    all of all is shown.

    Of several boxes of the source's class, or of no named one, the largest counts. Places of sources in whole pictures
    are left out.
    """
    if pool.mixing.picture_part == "whole":
        return plan
    present = draws.chosen != NOBODY
    clips, boxes = draws.chosen[present], list_array(pool.table["boxes"])
    shown = np.tile(np.array([0, 0, 1, 1], np.float32), (len(clips), pictures.shape[-1], 1))
    for p, numbers in enumerate(pictures[present].T):
        owners, parts = _parts(boxes_of_pictures(boxes, clips, numbers), pool.class_id[clips])
        shown[owners, p] = parts
    shown = shown.reshape(len(clips), -1)
    state = fold(states_of(plan), _CUT)
    source = np.broadcast_to(np.arange(present.shape[1]), present.shape)[present]
    for n in range(present.shape[1]):
        folded = fold(state[present[:, n]], *shown[source == n].view(np.uint32).T.astype(np.uint64))
        state[present[:, n]] = folded
    column = pa.ListArray.from_arrays(list_array(plan["clip_id"]).offsets, lists_of(shown))
    return without_truth(with_ids(plan, state)).append_column("part", column)


def _parts(boxes: pa.ListArray, class_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of lists of boxes [X], those that hold one of their source's class [X], or of no named class, and with an area:
    numbers of the lists, and the largest box of each, float32 [..., 4], within the picture."""
    counts = pc.list_value_length(boxes).fill_null(0).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    owners, values = np.repeat(np.arange(len(boxes)), counts), boxes.flatten()
    corners = np.stack([values.field(name).to_numpy(zero_copy_only=False) for name in _CORNERS], axis=1)
    corners = corners.astype(np.float32).clip(0, 1)
    named = values.field("class_id").fill_null(-1).to_numpy()
    sides = corners[:, 2:] - corners[:, :2]
    own = ((named == class_ids[owners]) | (named == -1)) & (sides > 0).all(axis=1)
    owners, corners, areas = owners[own], corners[own], sides[own].prod(axis=1)
    order = np.lexsort((-areas, owners))
    owners, firsts = np.unique(owners[order], return_index=True)
    return owners, corners[order][firsts]
