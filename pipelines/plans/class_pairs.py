"""Test mixtures of each pair of classes equally often, as Co-Separation tests MUSIC: 55 pairs of 11 instruments.

Shape letters: R pairs of classes.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from cocktail.types import UsageError
from pipelines.plans.draws import MEMBER, Draws, random_crops
from pipelines.plans.pool import ClipPool
from pipelines.plans.random_numbers import draw

_DRAWS_PER_CROP = 20
"""Draws, for each crop that is wanted of a pair, after which there are taken to be no more."""


def pairs_of_classes(pool: ClipPool) -> np.ndarray:
    """Pairs of different classes that clips of one class have, int64 [R, 2], in the order of their ids."""
    classes = np.unique(pool.class_id[pool.class_id >= 0]).tolist()
    return np.array(list(combinations(classes, 2)), np.int64).reshape(-1, 2)


def draw_class_pairs(pool: ClipPool, crops_per_pair: int, seed: int) -> Draws:
    """So many mixtures of each pair of classes: one of all pairs, then another of all, and so on.

    Each is of a clip of one class a side, drawn evenly among those of the class, and cut at random. None occurs twice.
    Raises UsageError if there are no two classes, or if a pair has too few different crops.
    """
    pairs = pairs_of_classes(pool)
    if not len(pairs):
        raise UsageError(f"{pool.manifest.folder} has no two classes to pair: {pool.in_words()}")
    names = pool.table["clip_id"].to_pylist()
    by_class = np.array(sorted(range(len(pool)), key=lambda clip: (pool.class_id[clip], names[clip])), np.int64)
    ids = np.arange(len(pool.manifest.classes))
    first_clip = np.searchsorted(pool.class_id[by_class], ids)
    num_clips = np.searchsorted(pool.class_id[by_class], ids, side="right") - first_clip
    rows = np.arange(len(pairs))
    known: list[dict[tuple[int, ...], Draws]] = [{} for _ in pairs]
    for number in range(_DRAWS_PER_CROP * crops_per_pair):
        key = (seed, 0, number)
        uniform = np.stack([draw(rows, *key, MEMBER, side) for side in (0, 1)], axis=1)
        chosen = first_clip[pairs] + (uniform * num_clips[pairs]).astype(np.int64)
        chosen = by_class[chosen]
        draws = Draws(chosen, random_crops(pool, chosen, key))
        for row, (of_pair, mixture) in enumerate(zip(known, draws.unordered().tolist(), strict=True)):
            if len(of_pair) < crops_per_pair:
                of_pair.setdefault(tuple(mixture), draws.take(slice(row, row + 1)))
        if all(len(of_pair) == crops_per_pair for of_pair in known):
            break
    for (first, second), of_pair in zip(pairs.tolist(), known, strict=True):
        if len(of_pair) < crops_per_pair:
            classes = pool.manifest.classes
            raise UsageError(
                f"clips of {classes[first]} and {classes[second]} give only {len(of_pair)} different crops of the "
                f"{crops_per_pair} that are wanted: lower --evaluation.crops-per-pair or --mixing.segment-samples"
            )
    by_turn = [list(of_pair.values())[turn] for turn in range(crops_per_pair) for of_pair in known]
    return Draws(np.concatenate([each.chosen for each in by_turn]), np.concatenate([each.starts for each in by_turn]))
