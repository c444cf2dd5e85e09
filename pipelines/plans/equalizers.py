"""Random equalisers of training sources, drawn by the plan; `pipelines.mixtures.equalizer` applies them.

Shape letters: R mixtures, N most sources of a mixture, O octaves.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xxhash

from cocktail.config.mixing import Mixing
from pipelines.plans.draws import OCTAVE
from pipelines.plans.pool import list_array
from pipelines.plans.random_numbers import draw, fold
from pipelines.plans.rows import lists_of, num_sources_of, states_of, with_ids

NUM_OCTAVES = 8
"""Frequencies with a gain of their own: half the rate, a quarter of it, and so on. At 11,025 Hz the lowest is 43 Hz."""

_EQUALIZED = xxhash.xxh3_64_intdigest(b"equalized")
"""What is folded into a mixture's id before the gains of its equalisers."""


def with_equalizers_drawn(plan: pa.Table, mixing: Mixing, places: np.ndarray, key: tuple[int, ...]) -> pa.Table:
    """A plan with `equalizer`, O gains in dB a source, float32, drawn for the rows at some places [R] of a pass, and
    with ids that tell them; as it is if `mixing.equalizer_db` is 0."""
    if not mixing.equalizer_db:
        return plan
    shape = (len(plan), mixing.num_sources, NUM_OCTAVES)
    lots = [draw(places, *key, OCTAVE, n, o) for n in range(shape[1]) for o in range(NUM_OCTAVES)]
    gains_db = (mixing.equalizer_db * (2 * np.stack(lots, axis=1).reshape(shape) - 1)).astype(np.float32)
    present = np.arange(shape[1]) < num_sources_of(plan)[:, None]
    state = fold(states_of(plan), _EQUALIZED)
    for n in range(shape[1]):
        folded = fold(state, *gains_db[:, n].view(np.uint32).T.astype(np.uint64))
        state = np.where(present[:, n], folded, state)
    offsets = list_array(plan["clip_id"]).offsets
    column = pa.ListArray.from_arrays(offsets, lists_of(gains_db[present]))
    return with_ids(plan, state).append_column("equalizer", column)
