"""Equalisers of sources: gains by octave, as `pipelines.plans.equalizers` draws them.

Shape letters: T samples, O octaves.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy import fft

_TAIL = 4096
"""Samples of silence behind a sound, in which the filter's response fades before it comes round to the beginning."""
_LOUDEST = np.iinfo(np.int16).max


def equalize(sound: np.ndarray, gains_db: np.ndarray) -> np.ndarray:
    """A sound int16 [T] through a zero-phase filter with gains in dB [O] at half the rate, a quarter of it and so on:
    straight lines in dB over octaves between them, and the last one below.

    What comes out, int16 [T], is as loud (root mean square) as what went in, or as loud as its peak allows. It is
    computed in float64: machines that add in another order round to the same samples, but for one in billions.
    """
    length = fft.next_fast_len(len(sound) + _TAIL, real=True)
    curve_db = np.interp(_octaves(length), np.arange(len(gains_db)), gains_db)
    spectrum = np.asarray(fft.rfft(sound.astype(np.float64), length)) * 10 ** (curve_db / 20)
    filtered = np.asarray(fft.irfft(spectrum, length))[: len(sound)]
    loudness, peak = np.linalg.norm(filtered), np.abs(filtered).max(initial=0.0)
    if not peak:
        return sound
    level = min(np.linalg.norm(sound.astype(np.float64)) / loudness, _LOUDEST / peak)
    return np.rint(filtered * level).astype(np.int16)


@functools.lru_cache(maxsize=4)
def _octaves(length: int) -> np.ndarray:
    """Octaves below half the rate of each frequency of a transform of so many samples; that of 0 Hz as the next."""
    cycles = np.arange(length // 2 + 1) / length
    cycles[0] = cycles[1]
    return -np.log2(2 * cycles)
