"""Test mixtures around annotated pictures: each picture with boxes or a mask is an item of its own.

MUSIC's boxes are on thousands of frames of few videos; the item of a frame is the sound around it (DSOL, AVGN).

Shape letters: R mixtures.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from cocktail.types import UsageError
from pipelines.plans.draws import Draws
from pipelines.plans.pool import ClipPool, list_array


def annotated_pictures(pool: ClipPool) -> tuple[Draws, np.ndarray, dict[str, list[str]]]:
    """Clips of a pool, each cut around each of its pictures that has a box or a mask, by clip id, then time.

    Draws of one clip each, the numbers of their pictures int64 [R, 1, 1], and the clips of what is left out, by
    reason. A crop has its picture in its middle where the clip is long enough to both sides; crops that are silent are
    left out. Raises UsageError where a mixture is of several clips or does not show exactly one picture.
    """
    if pool.mixing.clips_per_mixture != 1:
        raise UsageError(
            f"annotated pictures are of single sources or whole clips, not of mixtures of {pool.mixing.num_sources}: "
            "add --evaluation.num-sources 1, --mixing.arrangement whole, or another --evaluation.crop"
        )
    if pool.mixing.pictures_per_source != 1:
        raise UsageError(
            "each annotated picture is tested by itself: set --mixing.pictures-per-source to 1, not "
            f"{pool.mixing.pictures_per_source}"
        )
    boxes = pool.table["boxes"].combine_chunks()
    counts = pc.list_value_length(boxes).fill_null(0).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    masked = np.flatnonzero(pool.table["mask_offset"].is_valid().to_numpy())
    marked = np.concatenate([np.repeat(np.arange(len(pool)), counts), masked])
    numbers = list_array(pool.table["boxes"]).flatten().field("picture").to_numpy()
    pictures = np.concatenate([numbers, np.zeros_like(masked)])
    names = pool.table["clip_id"].to_pylist()
    rank = np.empty(len(pool), np.int64)
    rank[sorted(range(len(pool)), key=names.__getitem__)] = np.arange(len(pool))
    # Pictures are in time order, and a mask is of the first.
    _, firsts = np.unique(np.stack([rank[marked], pictures], axis=1), axis=0, return_index=True)
    clips, pictures = marked[firsts], pictures[firsts].astype(np.int64)
    begins, seconds = pool.picture_times
    middles = np.rint(seconds[begins[clips] + pictures] * pool.mixing.sample_rate_hz).astype(np.int64)
    starts = np.clip(middles - pool.mixing.segment_samples // 2, 0, pool.last_starts(clips))
    sounding = pool.sounds(clips, starts)
    unmarked = np.setdiff1d(np.arange(len(pool)), clips)
    left_out = {
        "clips without an annotated picture": sorted(names[clip] for clip in unmarked),
        "annotated pictures amid silence": [names[clip] for clip in clips[~sounding]],
    }
    draws = Draws(clips[sounding, None], starts[sounding, None])
    return draws, pictures[sounding, None, None], left_out
