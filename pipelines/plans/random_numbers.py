"""Random numbers by counter: any of them can be computed alone, on any machine, in any order.

Everything is SplitMix64. Its finaliser F scrambles 64 bits; a key is F folded over the key's parts; the k-th number
of a key's stream is the top 53 bits of F(key + (k + 1) G), with the golden ratio G. docs/mixtures.md derives a
mixture by hand.
"""

from __future__ import annotations

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
_TOP_53_BITS = 2.0**-53


def draw(counter: np.ndarray, *key: int) -> np.ndarray:
    """Uniform float64 in [0, 1), one per counter, the same for the same key on any machine."""
    bits = _finalise(fold(0, *key) + (counter.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN))
    return (bits >> np.uint64(11)) * _TOP_53_BITS


def fold(state: int | np.ndarray, *parts: int | np.ndarray) -> np.ndarray:
    """A state, uint64, with parts, whole numbers modulo 2^64 or uint64 arrays of one shape, folded in one by one."""
    state = np.asarray(state, np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            number = part if isinstance(part, np.ndarray) else np.uint64(part % 2**64)
            state = _finalise(state ^ (number + np.uint64(GOLDEN)))
    return state


def _finalise(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
