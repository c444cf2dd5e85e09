"""Rendering of the bytes of mixtures from rows of a plan: a pure function, whoever runs it. It needs no torch.

Shape letters: B mixtures, N sources, C classes, T samples, K pictures of a mixture, P times, S side of a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from cocktail.config.mixing import Mixing
from cocktail.types import NO_CLASS
from pipelines.mixtures.equalizer import equalize
from pipelines.mixtures.pictures import WHOLE, UndecodableError, square_picture, truth_of_boxes, truth_of_mask
from pipelines.plans.pool import list_array
from pipelines.shards.reader import ClipReader, ClipSource, DamagedMemberError

Columns = dict[str, np.ndarray]
NewArray = Callable[[tuple[int, ...], type], np.ndarray]
COUNTERS = ("bytes_read", "bytes_fetched", "cache_hits", "cache_misses")


def render(rows: pa.Table, source: ClipSource, mixing: Mixing, new_array: NewArray = np.zeros) -> Columns:
    """Read what the rows of a plan name: columns of B rows, ready for any executor.

    `mixture_id`, `sources` int16 [B, N, T], `gains` float32 [B, N], `class_ids` int64 [B, N], `present` bool [B, N];
    from plans that list the sources' classes `labels` bool [B, N, C]; from those that list recordings `recordings` text
    [B, N], empty where no source is; from those with negatives `negative` text [B], empty for others, and
    `picture_recordings` text [B];
    with pictures `pictures` uint8 [B, K, P, S, S, 3]; where some are withheld `seen` bool [B, N], and black ones of the
    others, which are not read; from test plans of one picture `truth` bool [B, N, S, S] and
    `has_truth` bool [B, N]; `problem`, what is damaged in a mixture or nothing; and what it took to read.
    A clip shorter than T is repeated to fill it (Sound of Pixels). K is N, or 1 where clips are whole: then source 0
    carries the sound and the others are silent.

    `has_truth` is whether anybody said where a source is in its picture. If so, its `truth` may yet be empty: a box
    that lies outside the picture, is inside-out or covers no whole pixel, or was left out of the index with all others
    of its clip; a mask without an object.
    """
    B, N, P, S = len(rows), mixing.num_sources, mixing.pictures_per_source, mixing.picture_side
    whole = mixing.arrangement == "whole"
    num_clips, counts = (np.diff(list_array(rows[name]).offsets.to_numpy()) for name in ("clip_id", "class_id"))
    columns: Columns = {
        "mixture_id": np.array(rows["mixture_id"].to_pylist(), dtype="U16"),
        "sources": new_array((B, N, mixing.segment_samples), np.int16),
        "gains": _padded(rows["gain"], num_clips, N, 0.0, np.float32),
        "class_ids": _padded(rows["class_id"], counts, N, NO_CLASS, np.int64),
        "present": np.arange(N) < counts[:, None],
        "problem": np.full(B, "", dtype=object),
        **{name: np.zeros(B, np.int64) for name in COUNTERS},
    }
    if "recording" in rows.column_names:
        columns["recordings"] = _recordings(rows, counts, N)
    if "picture_recording" in rows.column_names:
        columns["negative"] = np.array([kind or "" for kind in rows["negative"].to_pylist()], "U16")
        columns["picture_recordings"] = np.array([names[0] for names in rows["picture_recording"].to_pylist()], str)
    if "label_ids" in rows.column_names:
        columns["labels"] = _labels(rows, N)
    if P:
        columns["pictures"] = new_array((B, 1 if whole else N, P, S, S, 3), np.uint8)
    if "seen" in rows.column_names:
        columns["seen"] = _padded(rows["seen"], counts, N, False, np.bool)
    if "boxes" in rows.column_names:
        columns["truth"], columns["has_truth"] = np.zeros((B, N, S, S), bool), np.zeros((B, N), bool)
    clips = _clips(rows)
    first = 0
    with ClipReader(source) as reader:
        before = [0] * len(COUNTERS)
        reader.prepare(_shards(rows))
        for b, count in enumerate(num_clips):
            try:
                for n, clip in enumerate(clips[first : first + count]):
                    _sound(reader, clip, columns["sources"][b, n])
                    if not clip.get("seen", True):
                        continue
                    if P:
                        _pictures(reader, clip, mixing, columns["pictures"][b, n])
                    if "truth" in columns:
                        for source_number in range(counts[b]) if whole else (n,):
                            _truth(reader, clip, mixing, columns, (b, source_number))
            except DamagedMemberError as error:
                columns["problem"][b] = str(error)
            counts_now = [getattr(reader, name) for name in COUNTERS]
            for name, now, was in zip(COUNTERS, counts_now, before, strict=True):
                columns[name][b] = now - was
            before = counts_now
            first += count
    columns["problem"] = columns["problem"].astype(str)
    return columns


def _shards(rows: pa.Table) -> list[str]:
    """The shards that hold the clips of some rows, and those that lend them pictures, each once."""
    named = [list_array(rows[name]).flatten() for name in ("shard", "lender_shard") if name in rows.column_names]
    return pa.concat_arrays(named).unique().to_pylist()


def _padded(column: pa.ChunkedArray, counts: np.ndarray, width: int, padding: Any, dtype: type) -> np.ndarray:
    values = np.full((len(counts), width), padding, dtype)
    values[np.arange(width) < counts[:, None]] = list_array(column).flatten().to_numpy(zero_copy_only=False)
    return values


def _recordings(rows: pa.Table, counts: np.ndarray, width: int) -> np.ndarray:
    """The recording of each source [B, width]: of a whole clip, all of its sources have the same."""
    names = np.full((len(rows), width), "", dtype=object)
    for b, (of_clips, count) in enumerate(zip(rows["recording"].to_pylist(), counts, strict=True)):
        names[b, :count] = of_clips if len(of_clips) == count else of_clips * count
    return names.astype(str)


def _labels(rows: pa.Table, width: int) -> np.ndarray:
    """All classes of each source, bool [B, width, C]."""
    num_classes = max(rows["num_classes"].to_pylist(), default=0)
    labels = np.zeros((len(rows), width, num_classes), bool)
    for b, sources in enumerate(rows["label_ids"].to_pylist()):
        for n, class_ids in enumerate(sources):
            labels[b, n, class_ids] = True
    return labels


def _clips(rows: pa.Table) -> list[dict[str, Any]]:
    """The clips of all rows, one after the other, with what the plan says of each but for its classes."""
    columns = {}
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if pa.types.is_list(column.type) and name != "class_id":
            values = list_array(column).flatten()
            nested = name == "checks"
            columns[name] = _split(values) if nested else values.to_pylist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _split(lists: pa.ListArray) -> list[list[int]]:
    values, offsets = lists.flatten().to_pylist(), (lists.offsets.to_numpy() - lists.offsets[0].as_py()).tolist()
    return [values[begin:end] for begin, end in pairwise(offsets)]


def _sound(reader: ClipReader, clip: dict[str, Any], into: np.ndarray) -> None:
    count = min(len(into), clip["num_samples"] - clip["start"])
    into[:count] = reader.sound(clip, clip["start"], count, clip["checks"])
    for begin in range(count, len(into), count):
        into[begin : begin + count] = into[: len(into) - begin][:count]
    if "equalizer" in clip:
        into[:] = equalize(into, np.asarray(clip["equalizer"]))


def _pictures(reader: ClipReader, clip: dict[str, Any], mixing: Mixing, into: np.ndarray) -> None:
    members = zip(clip["picture"], clip["frame_offsets"], clip["frame_sizes"], clip["frame_checks"], strict=True)
    if "lender" in clip:  # whose pictures these are
        clip = {**clip, "clip_id": clip["lender"], "shard": clip["lender_shard"]}
    for p, (number, offset, size, check) in enumerate(members):
        jpeg = reader.file(clip, offset, size, check, f"picture {number}")
        square = tuple(clip["square"]) if "square" in clip else None
        part = tuple(clip["part"][4 * p : 4 * p + 4]) if "part" in clip else WHOLE
        try:
            into[p] = square_picture(jpeg, mixing.picture_side, mixing.picture_margin, square, part)
        except UndecodableError as error:
            raise reader.damaged(clip, f"picture {number} {error}; it was written so: make its shard again") from error


def _truth(reader: ClipReader, clip: dict[str, Any], mixing: Mixing, columns: Columns, at: tuple[int, int]) -> None:
    """Write the place of the source `at` (mixture, source) in its clip's picture, if anybody said it."""
    truth = None
    if clip["mask_offset"] is not None and clip["picture"][0] == 0:
        png = reader.file(clip, clip["mask_offset"], clip["mask_bytes"], clip["mask_check"], "mask")
        try:
            truth = truth_of_mask(png, mixing.picture_side)
        except UndecodableError as error:
            raise reader.damaged(clip, f"its mask {error}; it was written so: make its shard again") from error
    elif clip["boxes"] is not None:
        class_ids = clip["label_ids"] if "label_ids" in clip else [int(columns["class_ids"][at])]
        truth = truth_of_boxes(clip["boxes"], class_ids, mixing.picture_side)
    if truth is not None:
        columns["truth"][at], columns["has_truth"][at] = truth, True
