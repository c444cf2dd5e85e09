"""Plans of mixtures: small tables, one row a mixture, that say which bytes to read and how to mix them.

`plan_epoch` and `plan_test` are pure functions of a pool of clips, a seed and an epoch; docs/mixtures.md derives a
row by hand. A `mixture_id` is derived from what a mixture holds, so the same mixture has the same id in any run.

Shape letters: R mixtures, N most sources of a mixture, P pictures of a source.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import xxhash

from cocktail.config.evaluation import Evaluation
from cocktail.types import NO_CLASS, UsageError
from pipelines.mixtures.annotated import annotated_pictures
from pipelines.mixtures.boxes import boxes_of_pictures, in_class_ids
from pipelines.mixtures.draws import GAIN, NOBODY, PICTURE, SQUARE, Draws, draw_remixed, middle_crops, official_pairs
from pipelines.mixtures.pool import ClipPool, list_array, usable_clips
from pipelines.mixtures.random_numbers import draw, fold
from pipelines.mixtures.released import draw_released, middle_together, released_mixtures, whole_mixtures

IDLE_MIXTURES = 4000
"""Test mixtures drawn without a new one, after which there are taken to be no more; and no fewer than 20 passes."""
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def mixtures_per_epoch(pool: ClipPool) -> int:
    """Rows of each epoch's plan."""
    leaders = len(released_mixtures(pool)) if pool.mixing.arrangement == "released" else len(pool)
    return pool.mixing.mixtures_per_epoch or pool.mixing.passes_per_epoch * leaders


def mixtures_in_words(pool: ClipPool, evaluation: Evaluation | None = None) -> str:
    """A line that counts what mixtures are drawn from and what is left out; of test mixtures if settings are given."""
    text = pool.in_words()
    if pool.mixing.arrangement == "released":
        released = released_mixtures(pool)
        text += f"; {len(released)} released mixtures"
        text += f", {released.left_out} cannot be used" if released.left_out else ""
    if evaluation is None:
        return text
    if evaluation.num_sources is None:
        return text + _test_in_words(pool, evaluation)
    for each in _by_number(pool, evaluation):
        number = each.mixing.num_sources
        text += f"; of {number} source{'s' * (number > 1)}: {mixtures_in_words(each)}{_test_in_words(each, evaluation)}"
    return text


def _test_in_words(pool: ClipPool, evaluation: Evaluation) -> str:
    """A text that counts test mixtures of a pool's number of sources, where they can be, and what is left out."""
    if evaluation.whole_groups and pool.mixing.arrangement == "released":
        return f", {len(whole_mixtures(pool))} of them whole and of as many sources as asked for"
    text, left_out = "", dict[str, list[str]]()
    if _of_official_pairs(pool, evaluation):
        draws, left_out = official_pairs(pool)
        text = f"; {len(draws)} official pairs"
    elif evaluation.crop == "annotated":
        draws, _, left_out = annotated_pictures(pool)
        text = f"; {len(draws)} annotated pictures of {len(np.unique(draws.chosen))} clips"
    return text + "".join(f", {len(clips)} {why} (as {clips[0]})" for why, clips in left_out.items() if clips)


def plan_epoch(pool: ClipPool, *, seed: int, epoch: int) -> pa.Table:
    """The mixtures of an epoch, one row each, in the order in which they are trained.

    A pass over the pool gives each clip, or released mixture, one mixture to lead (or each class as many as any
    other); partners are drawn evenly among what else there is in the same window of shards. Crops, gains and the
    squares cut out of pictures are random; no crop is silent. Raises UsageError where the data cannot give such
    mixtures.
    """
    mixing = pool.mixing
    draw_pass = draw_released if mixing.arrangement == "released" else draw_remixed
    left = mixtures_per_epoch(pool)
    passes = []
    while left:
        key = (seed, epoch, len(passes))
        draws = draw_pass(pool, key, mixing.window_shards).take(slice(left))
        left -= len(draws)
        rows, shape = np.arange(len(draws)), draws.chosen.shape
        gains = np.ones(shape)
        if mixing.arrangement == "remixed":
            uniform = np.stack([draw(rows, *key, GAIN, n) for n in range(shape[1])], axis=1)
            gains = mixing.min_gain + (mixing.max_gain - mixing.min_gain) * uniform
        moments = _uniform(shape, mixing.pictures_per_source, (*key, PICTURE))
        squares = _uniform(shape, 3 if mixing.pictures_per_source else 0, (*key, SQUARE))
        passes.append(plan_rows(pool, draws, gains, _nearest_pictures(pool, draws, moments), squares))
    return pa.concat_tables(passes).combine_chunks()


def plan_test(pool: ClipPool, evaluation: Evaluation) -> pa.Table:
    """A list of test mixtures as the settings describe it: without gain, whole pictures.

    With `evaluation.num_sources`, a list for each number, one after the other; the pool's mixing is then that of
    `evaluation.test_mixing`. A combination of clips with its crops occurs once in a list. `evaluation.num_mixtures` is
    the length of each list that is drawn. Of a list that can be counted out (single sources, official pairs, whole
    groups and clips) it is the most, so that the 5,158 clips of VGG-SS are tested on as single sources wherever more
    pairs are drawn; annotated pictures, of which one video has hundreds, are then taken at even distances. Raises
    UsageError as `plan_epoch` does, if fewer mixtures can be drawn than are wanted, or a list would be empty.
    """
    if evaluation.num_sources is None:
        return _plan_number(pool, evaluation)
    lists = [_plan_number(each, evaluation) for each in _by_number(pool, evaluation)]
    return pa.concat_tables(lists).combine_chunks()


def _by_number(pool: ClipPool, evaluation: Evaluation) -> list[ClipPool]:
    """The clips that mixtures of each number of sources can be made of."""
    assert pool.mixing == evaluation.test_mixing(pool.mixing), "the pool must be of evaluation.test_mixing"
    mixings = [replace(pool.mixing, num_sources=n, min_sources=None) for n in evaluation.num_sources or ()]
    return [usable_clips(pool.manifest, mixing, pool.split) for mixing in mixings]


def _of_official_pairs(pool: ClipPool, evaluation: Evaluation) -> bool:
    """Whether a pool's test mixtures are official pairs: of several numbers of sources, only two are pairs."""
    return evaluation.pairs == "official" and (evaluation.num_sources is None or pool.mixing.num_sources == 2)


def _plan_number(pool: ClipPool, evaluation: Evaluation) -> pa.Table:
    if evaluation.crop == "annotated":
        draws, pictures, _ = annotated_pictures(pool)
        count = min(len(draws), evaluation.num_mixtures or len(draws))
        even = np.arange(count) * len(draws) // max(count, 1)
        draws, pictures = draws.take(even), pictures[even]
    else:
        draws = _test_draws(pool, evaluation)
        moments = np.full((*draws.chosen.shape, pool.mixing.pictures_per_source), 0.5)
        pictures = _nearest_pictures(pool, draws, moments) if len(draws) else np.empty(moments.shape, np.int64)
    if not len(draws):
        raise UsageError(
            f"the {pool.split} split of {pool.manifest.folder} gives no test mixture "
            f"({mixtures_in_words(pool)}{_test_in_words(pool, evaluation)}): choose another --evaluation.split, or "
            "another rule for what is tested"
        )
    return plan_rows(pool, draws, np.ones(draws.chosen.shape), pictures, None)


def plan_hash(plan: pa.Table) -> str:
    """SHA-256 over a plan's mixture ids in order: the same hash, the same mixtures."""
    return hashlib.sha256("\n".join(plan["mixture_id"].to_pylist()).encode()).hexdigest()


def _uniform(shape: tuple[int, ...], count: int, key: tuple[int, ...]) -> np.ndarray:
    """Random numbers [R, N, count]."""
    rows = np.arange(shape[0])
    columns = [draw(rows, *key, n, k) for n in range(shape[1]) for k in range(count)]
    return np.stack(columns, axis=1).reshape(*shape, count) if columns else np.empty((*shape, 0))


def _test_draws(pool: ClipPool, evaluation: Evaluation) -> Draws:
    """Draws of the test mixtures as `plan_test` says; none if the data give none."""
    wanted = evaluation.num_mixtures
    if evaluation.whole_groups and pool.mixing.arrangement != "released":
        raise UsageError("--evaluation.whole-groups is for released mixtures: add --mixing.arrangement released")
    if evaluation.pairs == "official" and pool.mixing.arrangement != "remixed":
        raise UsageError("official pairs are of clips to be mixed: leave --mixing.arrangement at remixed")
    if _of_official_pairs(pool, evaluation):
        return official_pairs(pool)[0].take(slice(wanted))
    if evaluation.whole_groups:
        return whole_mixtures(pool).take(slice(wanted))
    if pool.mixing.clips_per_mixture == 1 and evaluation.crop == "middle":
        clips = sorted(range(len(pool)), key=pool.table["clip_id"].to_pylist().__getitem__)
        return middle_crops(pool, np.array(clips, np.int64)[:, None]).take(slice(wanted))
    if wanted is None:
        raise UsageError("drawn test mixtures cannot be counted: set --evaluation.num-mixtures")
    draws = _drawn(pool, evaluation, wanted)
    if 0 < len(draws) < wanted:
        raise UsageError(
            f"the {pool.split} split of {pool.manifest.folder} gives only {len(draws)} different mixtures "
            f"({mixtures_in_words(pool)}): lower --evaluation.num-mixtures, which is {wanted}"
        )
    return draws


def _drawn(pool: ClipPool, evaluation: Evaluation, wanted: int) -> Draws:
    """Draws of as many different mixtures as wanted, from as many passes as it takes; fewer if there are no more."""
    all_shards = int(pool.shard.max()) + 1
    drawn = Draws.none(pool.mixing.clips_per_mixture)
    number = idle = 0
    while len(drawn) < wanted and idle < max(20, IDLE_MIXTURES // len(pool)):
        key = (evaluation.seed, 0, number)
        if pool.mixing.arrangement == "released":
            draws = draw_released(pool, key, all_shards)
            draws = middle_together(pool, draws.chosen) if evaluation.crop == "middle" else draws
        else:
            draws = draw_remixed(pool, key, all_shards)
            draws = middle_crops(pool, draws.chosen) if evaluation.crop == "middle" else draws
        more = drawn.and_then(draws)
        # The order of its sources makes no other mixture.
        _, firsts = np.unique(more.unordered(), axis=0, return_index=True)
        idle = idle + 1 if len(firsts) == len(drawn) else 0
        drawn = more.take(np.sort(firsts))
        number += 1
    return drawn.take(slice(wanted))


def _nearest_pictures(pool: ClipPool, draws: Draws, moments: np.ndarray) -> np.ndarray:
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
        return pa.ListArray.from_arrays(offsets, values if isinstance(values, pa.Array) else list_array(values))

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
        chosen = pictures[present]
        columns["picture"] = per_source(_lists(chosen))
        # Only what the chosen pictures have: of a video with thousands, as many rows may be made.
        places = pool.picture_times[0][clips, None] + chosen
        for name in ("frame_offsets", "frame_sizes", "frame_checks"):
            values = list_array(pool.table[name]).flatten().take(pa.array(places.ravel()))
            columns[name] = per_source(_lists(values, P))
        if squares is not None:
            columns["square"] = per_source(_lists(squares[present].astype(np.float32)))
    if masks:
        columns["boxes"] = per_source(
            boxes_of_pictures(list_array(pool.table["boxes"]), clips, pictures[present][:, 0])
        )
        columns |= {name: per_source(flat[name]) for name in masks}
    return pa.table(columns)


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


def _lists(values: np.ndarray | pa.Array, length: int | None = None) -> pa.Array:
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
    nibbles = np.stack([(state >> np.uint64(shift)) & np.uint64(15) for shift in range(60, -1, -4)], axis=1)
    digits = _HEX[nibbles.astype(np.uint8)]
    places = np.arange(0, 16 * len(digits) + 1, 16, dtype=np.int32)
    return pa.StringArray.from_buffers(len(digits), pa.py_buffer(places), pa.py_buffer(digits.tobytes()))


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
