"""A page's spectrogram keeps its time axis, however long the sound is."""

from __future__ import annotations

import numpy as np
import pytest

from cocktail.recordings.overview import MOST_COLUMNS, Overview
from cocktail.report.figures import NUM_ROWS

RATE = 8000


@pytest.mark.parametrize(("seconds", "click_seconds"), [(3 * 3600, 7923.5), (3 * 3600, 10799.0), (250, 77.0)])
def test_a_click_in_a_long_sound_is_in_the_column_of_its_time(seconds, click_seconds):
    overview = Overview(RATE)
    silence = np.zeros(10 * RATE, np.float32)
    for start in range(0, seconds, 10):
        samples = silence.copy()
        if start <= click_seconds < start + 10:
            samples[int((click_seconds - start) * RATE)] = 1
        overview.add(samples)
    overview.finish()
    levels = overview.levels
    assert levels.shape[0] == NUM_ROWS and MOST_COLUMNS / 2 < levels.shape[1] <= MOST_COLUMNS
    column_seconds = seconds / levels.shape[1]
    place = levels.max(axis=0).argmax()
    assert (place + 0.5) * column_seconds == pytest.approx(click_seconds, abs=column_seconds)


def test_few_samples_have_one_column():
    overview = Overview(RATE)
    overview.add(np.ones(5, np.float32))
    overview.finish()
    assert overview.levels.shape == (NUM_ROWS, 1)
