"""Rows of plans: which bytes to read for a mixture and how to mix them, out of what was drawn.

A `mixture_id` is derived from what a mixture holds, so the same mixture has the same id in any run.

Shape letters: R mixtures, N most sources of a mixture, P pictures of a source.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import xxhash

from cocktail.types import NO_CLASS
from pipelines.plans.boxes import boxes_of_pictures, in_class_ids
from pipelines.plans.draws import NOBODY, Draws
from pipelines.plans.pool import ClipPool, list_array, one_array
from pipelines.plans.random_numbers import fold

_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def plan_hash(plan: pa.Table) -> str:
    """SHA-256 over a plan's mixture ids in order: the same hash, the same mixtures."""
    return hashlib.sha256("\n".join(plan["mixture_id"].to_pylist()).encode()).hexdigest()


def plan_rows(
    pool: ClipPool, draws: Draws, gains: np.ndarray, pictures: np.ndarray, squares: np.ndarray | None
) -> pa.Table:
    """The rows of a plan: draws with all that `render` needs to know of their clips.

    A row has a list for each column, of a value a clip; a whole clip has its classes in `class_id`, one or more. Where
    sources may have several classes, `label_ids` lists them all, out of `num_classes`.
    `gains` is [R, N], `pictures` [R, N, P], `squares` [R, N, 3]: the corner of the square that is cut out, as a share
    of what it can move right and down, and whether it is mirrored (below 0.5); None shows whole pictures, with truth.
    """
    present = draws.chosen != NOBODY
    clips = draws.chosen[present]
    starts, gains = draws.starts[present], gains.astype(np.float32)
    whole = pool.mixing.arrangement == "whole"
    wanted = ["clip_id", "shard", "audio_offset", "audio_bytes", "num_samples"]
    wanted += ["class_ids"] if whole or pool.mixing.several_classes else []
    P = pictures.shape[-1]
    masks = ["mask_offset", "mask_bytes", "mask_check"] if P == 1 and squares is None else []
    flat = pool.table.select(wanted + masks).take(pa.array(clips))
    offsets = pa.array(np.concatenate([[0], np.cumsum(present.sum(axis=1))]), pa.int32())

    def per_source(values: pa.ChunkedArray | pa.Array | np.ndarray) -> pa.Array:
        if isinstance(values, np.ndarray):
            return pa.ListArray.from_arrays(offsets, pa.array(values))
        return pa.ListArray.from_arrays(offsets, values if isinstance(values, pa.Array) else one_array(values))

    columns = {
        "mixture_id": _mixture_ids(pool, draws, gains, pictures, squares),
        "clip_id": per_source(flat["clip_id"]),
        "class_id": list_array(flat["class_ids"]) if whole else per_source(pool.class_id[clips].astype(np.int32)),
        **{name: per_source(flat[name]) for name in ("shard", "audio_offset", "audio_bytes", "num_samples")},
        "start": per_source(starts),
        "gain": per_source(gains[present]),
        "checks": per_source(_checks(pool, clips, starts)),
    }
    if pool.mixing.several_classes:
        columns["label_ids"] = per_source(flat["class_ids"])
        columns["num_classes"] = pa.array(np.full(len(draws), len(pool.manifest.classes), np.int32))
    if P:
        of_pictures = picture_columns(pool, clips, pictures[present])
        columns |= {name: per_source(values) for name, values in of_pictures.items()}
        if squares is not None:
            columns["square"] = per_source(lists_of(squares[present].astype(np.float32)))
    if masks:
        columns["boxes"] = per_source(
            boxes_of_pictures(list_array(pool.table["boxes"]), clips, pictures[present][:, 0])
        )
        columns |= {name: per_source(flat[name]) for name in masks}
    return pa.table(columns)


def picture_columns(pool: ClipPool, clips: np.ndarray, pictures: np.ndarray) -> dict[str, pa.Array]:
    """What a plan says of pictures [X, P], numbers of those of each clip [X]: a list of P for each, by column."""
    columns = {"picture": lists_of(pictures)}
    # Only what the chosen pictures have: of a video with thousands, as many rows may be made.
    places = pool.picture_times[0][clips, None] + pictures
    for name in ("frame_offsets", "frame_sizes", "frame_checks"):
        values = list_array(pool.table[name]).flatten().take(pa.array(places.ravel()))
        columns[name] = lists_of(values, pictures.shape[1])
    return columns


def with_class_ids(plan: pa.Table, own: np.ndarray, num_classes: int) -> pa.Table:
    """A plan in other class ids, out of `num_classes`, also those of its boxes: class c becomes `own[c]`, NO_CLASS
    stays.

    Boxes of a class that has none, NO_CLASS in `own`, are then of no source, and labels of it are left out.
    """
    if np.array_equal(own, np.arange(num_classes)):
        return plan
    ids = np.append(own, NO_CLASS).astype(np.int32)  # what the id NO_CLASS points to
    column = list_array(plan["class_id"])
    mapped = pa.ListArray.from_arrays(column.offsets, pa.array(ids[column.flatten().to_numpy()]))
    changed: dict[str, pa.Array] = {"class_id": mapped}
    if "label_ids" in plan.column_names:
        labels = [
            [[own[class_id] for class_id in class_ids if own[class_id] != NO_CLASS] for class_ids in sources]
            for sources in plan["label_ids"].to_pylist()
        ]
        changed["label_ids"] = pa.array(labels, plan["label_ids"].type)
        changed["num_classes"] = pa.array(np.full(len(plan), num_classes, np.int32))
    if "boxes" in plan.column_names:
        changed["boxes"] = in_class_ids(plan["boxes"], own)
    for name, values in changed.items():
        plan = plan.set_column(plan.column_names.index(name), name, values)
    return plan


def lists_of(values: np.ndarray | pa.Array, length: int | None = None) -> pa.Array:
    """Lists of one length: the rows of an array, or consecutive values."""
    if isinstance(values, np.ndarray):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    return pa.FixedSizeListArray.from_arrays(values, length)


def _mixture_ids(
    pool: ClipPool, draws: Draws, gains: np.ndarray, pictures: np.ndarray, squares: np.ndarray | None
) -> pa.Array:
    """16 hexadecimal digits a mixture: what its sources are, folded into what all of the data set's have in common."""
    mixing = pool.mixing
    common = (xxhash.xxh3_64_intdigest(pool.manifest.dataset.encode()), mixing.sample_rate_hz, mixing.segment_samples)
    if mixing.arrangement == "whole":  # the same crop is another mixture where it is one source
        common = (*common, xxhash.xxh3_64_intdigest(b"whole"))
    state = np.broadcast_to(fold(0, *common), len(draws))
    for n in range(draws.chosen.shape[1]):
        clips = draws.chosen[:, n]
        parts = [pool.name_hashes[np.maximum(clips, 0)], draws.starts[:, n], gains[:, n].view(np.uint32)]
        parts += list(pictures[:, n].T)
        if squares is not None:
            parts += list(squares[:, n].astype(np.float32).view(np.uint32).T)
        folded = fold(state, *(part.astype(np.uint64) for part in parts))
        state = np.where(clips == NOBODY, state, folded)
    return as_ids(state)


def states_of(plan: pa.Table) -> np.ndarray:
    """A plan's mixture ids, uint64 [R], into which more may be folded."""
    return np.array([int(name, 16) for name in plan["mixture_id"].to_pylist()], np.uint64)


def with_ids(plan: pa.Table, state: np.ndarray) -> pa.Table:
    """A plan with other mixture ids, states uint64 [R]."""
    return plan.set_column(plan.column_names.index("mixture_id"), "mixture_id", as_ids(state))


def as_ids(state: np.ndarray) -> pa.Array:
    """States, uint64 [R], as mixture ids."""
    nibbles = np.stack([(state >> np.uint64(shift)) & np.uint64(15) for shift in range(60, -1, -4)], axis=1)
    digits = _HEX[nibbles.astype(np.uint8)]
    places = np.arange(0, 16 * len(digits) + 1, 16, dtype=np.int32)
    return pa.StringArray.from_buffers(len(digits), pa.py_buffer(places), pa.py_buffer(digits.tobytes()))


def num_sources_of(plan: pa.Table) -> np.ndarray:
    """Sources of each mixture, int64 [R], each a clip of its own."""
    return np.diff(list_array(plan["clip_id"]).offsets.to_numpy()).astype(np.int64)


def _checks(pool: ClipPool, clips: np.ndarray, starts: np.ndarray) -> pa.ListArray:
    """The checksums of the seconds that each crop touches."""
    rate = pool.mixing.sample_rate_hz
    checks = list_array(pool.table["checks"])
    ends = np.minimum(starts + pool.mixing.segment_samples, pool.num_samples[clips])
    first = starts // rate
    counts = -(-ends // rate) - first
    offsets = np.concatenate([[0], np.cumsum(counts)])
    places = np.repeat(checks.offsets.to_numpy()[clips] + first - offsets[:-1], counts)
    places += np.arange(offsets[-1])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(checks.flatten().to_numpy()[places]))
