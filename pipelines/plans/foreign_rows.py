"""Rows of a plan that come out of a file: they say where bytes lie, and are only believed where the manifest agrees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.foreign.bounded import is_count, is_plain_name
from cocktail.types import UsageError
from pipelines.shards.manifest import Manifest

_SAME = (
    "recording", "shard", "audio_offset", "audio_bytes", "num_samples",
)  # fmt: skip
_MASK = ("mask_offset", "mask_bytes", "mask_check")
"""Null where there is none, and in negatives, whose clips may have one."""
_FRAMES = ("frame_offsets", "frame_sizes", "frame_checks")


def require_of(manifest: Manifest, rows: pa.Table, what: str) -> None:
    """Raise UsageError for rows, called `what`, that name other bytes than those of the manifest's clips."""
    try:
        columns = [name for name in ("clip_id", "lender") if name in rows.column_names]
        named = {clip_id for name in columns for clip_ids in rows[name].to_pylist() for clip_id in clip_ids}
        known = manifest.table.filter(pc.field("clip_id").isin(pa.array(sorted(named), pa.string())))
        clips = {clip["clip_id"]: clip for clip in known.to_pylist()}
        holds = all(_is_of(row, clips) for row in rows.to_pylist())
    except (pa.ArrowException, KeyError, TypeError, ValueError, IndexError) as error:
        raise UsageError(f"{what} has no rows of mixtures: score the checkpoint again with jobs/evaluate.py") from error
    if not holds:
        raise UsageError(
            f"{what} names other bytes than {manifest.folder} has: score the checkpoint again with jobs/evaluate.py"
        )


def _is_of(row: Mapping[str, Any], clips: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether each clip of a row lies where the manifest says, and its crop and pictures inside it."""
    if not is_plain_name(row["mixture_id"]):
        return False
    for n, clip_id in enumerate(row["clip_id"]):
        clip = clips[clip_id]
        if any(row[name][n] != clip[name] for name in _SAME if name in row):
            return False
        if any(row[name][n] not in (None, clip[name]) for name in _MASK if name in row):
            return False
        if not is_count(row["start"][n], clip["num_samples"] - 1):
            return False
        lender = clips[row["lender"][n]] if "lender" in row else clip
        if "lender" in row and row["lender_shard"][n] != lender["shard"]:
            return False
        if "picture_recording" in row and row["picture_recording"][n] != lender["recording"]:
            return False
        own = set(zip(*(lender[name] for name in _FRAMES), strict=True))
        if "picture" in row and not set(zip(*(row[name][n] for name in _FRAMES), strict=True)) <= own:
            return False
    return True
