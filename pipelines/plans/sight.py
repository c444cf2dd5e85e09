"""What a mixture's sources show: pictures near the middles of their crops, their own or lent ones, or none.

Which sources are shown, and whose pictures, changes a mixture's id and its pictures, and nothing else of it.

Shape letters: R mixtures, N most sources of a mixture, P pictures of a source, X sources of all mixtures.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xxhash

from cocktail.config.mixing import Mixing
from cocktail.types import NO_CLASS, UsageError
from pipelines.plans.draws import LENDER, SHOWN, Draws, middle_crops
from pipelines.plans.pool import ClipPool, list_array
from pipelines.plans.random_numbers import draw, fold
from pipelines.plans.rows import num_sources_of, picture_columns, states_of, with_ids

_WITHHELD, _LENT = (xxhash.xxh3_64_intdigest(word) for word in (b"withheld", b"lent"))
"""What is folded into a mixture's id with the sources that it shows, and with the clips whose pictures it has."""


def nearest_pictures(pool: ClipPool, draws: Draws, moments: np.ndarray) -> np.ndarray:
    """The clips' pictures int64 [R, N, P] nearest to `moments` [R, N, P] within the P equal parts of each crop."""
    P = moments.shape[-1]
    if not P:
        return np.empty(moments.shape, np.int64)
    begins, seconds = pool.picture_times
    clips = np.maximum(draws.chosen, 0)[..., None]
    crop_seconds = pool.mixing.segment_samples / pool.mixing.sample_rate_hz
    wanted = draws.starts[..., None] / pool.mixing.sample_rate_hz + (np.arange(P) + moments) / P * crop_seconds
    # One sorted list of all pictures: each clip's times are moved past those of the clip before.
    apart = float(seconds.max()) + 2 * float(wanted.max()) + 1
    owner = np.repeat(np.arange(len(pool)), np.diff(begins))
    after = np.searchsorted(owner * apart + seconds, clips * apart + wanted)
    after = np.clip(after, begins[clips], begins[clips + 1] - 1)
    before = np.maximum(after - 1, begins[clips])
    nearer = np.where(wanted - seconds[before] <= np.abs(seconds[after] - wanted), before, after)
    return nearer - begins[clips]


def with_shown_drawn(plan: pa.Table, mixing: Mixing, places: np.ndarray, key: tuple[int, ...]) -> pa.Table:
    """A plan with the sources that `mixing.shown_sources` asks to show, drawn for the rows at some places [R] of a pass
    or list; as it is if all are shown."""
    if mixing.shown_sources == "all":
        return plan
    counts = num_sources_of(plan)
    present = np.arange(mixing.num_sources) < counts[:, None]
    fewest, most = np.array([mixing.num_shown(count) for count in counts.tolist()], np.int64).reshape(-1, 2).T
    number = fewest + (draw(places, *key, SHOWN) * (most - fewest + 1)).astype(np.int64)
    lots = np.stack([draw(places, *key, SHOWN, n) for n in range(mixing.num_sources)], axis=1)
    order = np.argsort(np.where(present, lots, 2.0), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    return with_shown(plan, rank < number[:, None])


def with_shown(plan: pa.Table, shown: np.ndarray) -> pa.Table:
    """A plan whose sources show their pictures, or do not, as bool [R, N] says: with `seen`, a list a mixture."""
    offsets = list_array(plan["clip_id"]).offsets
    present = np.arange(shown.shape[1]) < num_sources_of(plan)[:, None]
    bits = ((shown & present).astype(np.uint64) << np.arange(shown.shape[1], dtype=np.uint64)).sum(
        axis=1, dtype=np.uint64
    )
    seen = pa.ListArray.from_arrays(offsets, pa.array(shown[present]))
    return with_ids(plan, fold(states_of(plan), _WITHHELD, bits)).append_column("seen", seen)


def with_lent_pictures(plan: pa.Table, lenders: ClipPool, seed: int) -> pa.Table:
    """A test plan whose sources show the pictures of other clips of their class: each of one drawn evenly from a pool,
    those that a test of that clip would show. Columns `lender` and `lender_shard` say whose they are.

    Places in the source's own picture are left out. Raises UsageError for sources without one class, and for classes
    that no lender has.
    """
    class_ids = list_array(plan["class_id"]).flatten().to_numpy()
    counts, offsets = num_sources_of(plan), list_array(plan["clip_id"]).offsets
    by_class = np.argsort(lenders.class_id, kind="stable")
    classes, begins, sizes = np.unique(lenders.class_id[by_class], return_index=True, return_counts=True)
    place = np.searchsorted(classes, class_ids).clip(max=len(classes) - 1)
    unlent = np.flatnonzero((classes[place] != class_ids) | (class_ids == NO_CLASS))
    if len(unlent):
        lacking = class_ids[unlent[0]]
        what = "of no class, or of several" if lacking == NO_CLASS else lenders.manifest.classes[lacking]
        raise UsageError(
            f"no clip of the split {lenders.split} can lend its pictures to {len(unlent)} test sources, as to one that "
            f"is {what}: leave out --evaluation.frames-from, or name another split"
        )
    rows, source = np.repeat(np.arange(len(plan)), counts), _source_numbers(counts)
    lots = np.zeros(len(rows))
    for n in np.unique(source):
        lots[source == n] = draw(rows[source == n], seed, LENDER, int(n))
    chosen = by_class[begins[place] + (lots * sizes[place]).astype(np.int64)]
    draws = middle_crops(lenders, chosen[:, None])
    moments = np.full((*draws.chosen.shape, lenders.mixing.pictures_per_source), 0.5)
    pictures = nearest_pictures(lenders, draws, moments)[:, 0]
    changed = picture_columns(lenders, chosen, pictures)
    lent = lenders.table.select(["clip_id", "shard"]).take(pa.array(chosen))
    changed |= {"lender": lent["clip_id"].combine_chunks(), "lender_shard": lent["shard"].combine_chunks()}
    state = fold(states_of(plan), _LENT)
    for n in np.unique(source):
        of_rows = rows[source == n]
        parts = (lenders.name_hashes[chosen], *pictures.T)
        state[of_rows] = fold(state[of_rows], *(part[source == n].astype(np.uint64) for part in parts))
    kept = [name for name in plan.column_names if name not in {*changed, "boxes"} and not name.startswith("mask_")]
    plan = with_ids(plan.select(kept), state)
    for name, values in changed.items():
        plan = plan.append_column(name, pa.ListArray.from_arrays(offsets, values))
    return plan


def _source_numbers(counts: np.ndarray) -> np.ndarray:
    """The place of each source in its mixture, int64 [X]."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
