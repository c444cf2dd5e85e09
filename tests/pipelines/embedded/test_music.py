"""What is drawn for each clip, so that neither pitch nor an equaliser tells classes apart."""

import numpy as np
import pytest

from pipelines.embedded import music

RATE = music.SAMPLE_RATE_HZ


def cents_of_a_tone(sustained: bool, seed: int) -> np.ndarray:
    """How far a tone of 440 Hz is from its pitch once it is detuned, in cents, over a second of it."""
    phase = 2 * np.pi * 440 * np.arange(2 * RATE) / RATE
    dry = np.stack([np.cos(phase), np.sin(phase)]).astype(np.float32)
    real, imaginary = music._detuned(dry, sustained, np.random.default_rng(seed))
    turns = np.diff(np.unwrap(np.angle(real + 1j * imaginary)))[RATE // 4 : RATE + RATE // 4]
    return 1200 * np.log2(turns * RATE / (2 * np.pi) / 440)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_struck_or_plucked_is_off_pitch_by_as_much_all_the_time(seed):
    cents = cents_of_a_tone(False, seed)
    assert abs(np.median(cents)) <= music._DETUNE_CENTS
    assert np.ptp(np.convolve(cents, np.ones(500) / 500, "valid")) < 1


def test_what_is_bowed_or_blown_wavers_by_up_to_the_vibrato_drawn():
    depths = [np.ptp(np.convolve(cents_of_a_tone(True, seed), np.ones(500) / 500, "valid")) / 2 for seed in range(12)]
    assert max(depths) <= music._VIBRATO_CENTS + 1
    assert max(depths) > 15
    assert np.std(depths) > 3


def test_clips_differ_in_pitch_and_body_by_more_than_an_equaliser_knows():
    assert np.std([np.median(cents_of_a_tone(False, seed)) for seed in range(12)]) > 10
    frequencies = np.geomspace(200, 4000, 50)
    bodies = np.stack([20 * np.log10(music._draw_body(frequencies, np.random.default_rng(seed))) for seed in range(40)])
    assert np.median(bodies.std(axis=0)) > 2
    assert not music._draw_body(np.array([0.0, 20.0]), np.random.default_rng(0)).any()
