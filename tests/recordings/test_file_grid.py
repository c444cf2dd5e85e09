"""Masks of a model's grid on recordings at any rate: nothing is lost, moved in time, or invented above the band."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cocktail.audio.stft import FrontEnd, FrontEndConfig
from cocktail.recordings.file_grid import MaskedRecording, fast_even_length

GRID = FrontEnd(FrontEndConfig(n_fft=510, hop_length=128, num_rows=64))
RATE = 8000


def masked(sound: np.ndarray, masks: torch.Tensor, rate_hz: int, piece: int = 4000) -> np.ndarray:
    """Stems [N, C, T] of a sound [C, T] by masks [N, F, M], which come in pieces."""
    recording = MaskedRecording(GRID, RATE, rate_hz, len(sound), len(masks))
    parts, sent = [], 0
    for start in range(0, sound.shape[1], piece):
        recording.add_samples(sound[:, start : start + piece])
        end = min(int((start + piece) / rate_hz * RATE / 128) - 2, masks.shape[-1])
        if end > sent:
            recording.add_masks(masks[..., sent:end])
            sent = end
        parts.append(recording.ready())
    if sent < masks.shape[-1]:
        recording.add_masks(masks[..., sent:])
    return np.concatenate([*parts, recording.finish()], axis=-1)


def num_frames(seconds: float) -> int:
    return 1 + int(np.ceil(seconds * RATE / 128))


@pytest.mark.parametrize("rate_hz", [1000, 8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.01, 0.1, 1.77])
def test_a_mask_of_ones_gives_the_recording_back_and_one_of_halves_half(rate_hz, seconds):
    sound = np.random.default_rng(0).uniform(-1, 1, (2, max(int(seconds * rate_hz), 1))).astype(np.float32)
    masks = torch.ones(2, 256, num_frames(seconds))
    masks[1] = 0.5
    for piece in (977, 10**6):
        stems = masked(sound, masks, rate_hz, piece)
        assert stems.shape == (2, *sound.shape)
        np.testing.assert_allclose(stems[0], sound, atol=2e-6)
        np.testing.assert_allclose(stems[1], sound / 2, atol=2e-6)


def test_at_the_models_own_rate_stems_are_what_the_model_itself_gives():
    sound = torch.randn(1, 128 * 40, generator=torch.Generator().manual_seed(0)) * 0.2
    rows = torch.rand(1, 1, 64, 41, generator=torch.Generator().manual_seed(1))
    expected = GRID.apply_soft_mask(GRID.stft(sound), rows)[0]
    stems = masked(sound.numpy(), GRID.unwarp(rows[0]), RATE)
    np.testing.assert_allclose(stems[:, 0], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("rate_hz", [11025, 16000, 44100, 48000])
def test_masks_open_at_their_own_time(rate_hz):
    sound = np.full((1, 4 * rate_hz), 0.5, np.float32) * np.sign(np.arange(4 * rate_hz) % 7 - 3)
    masks = torch.zeros(1, 256, num_frames(4))
    masks[..., 125:] = 1  # from 2 s on
    stem = masked(sound, masks, rate_hz)[0, 0]
    level = np.abs(stem).reshape(-1, rate_hz // 25).mean(axis=1)  # 40 ms each
    opened = np.flatnonzero(level > level.max() / 2)[0] / 25
    assert opened == pytest.approx(2.0, abs=0.041)
    assert level[: 25 * 2 - 2].max() < 1e-6 and level[25 * 2 + 2 :].min() > 0.9 * level.max()


@pytest.mark.parametrize(("samples", "length"), [(4088, 4096), (4449.5, 4480), (2042.04, 2048), (10.2, 10), (0.3, 2)])
def test_windows_are_as_long_as_is_fast_to_transform_within_a_hundredth(samples, length):
    assert fast_even_length(samples) == length


def tone(hz: float, rate_hz: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(2 * rate_hz) / rate_hz)).astype(np.float32)[None]


@pytest.mark.parametrize(("from_bin", "share"), [(0, 1.0), (128, 1.0), (192, 0.5), (256, 0.0)])
def test_above_the_models_band_goes_what_the_mask_lets_through_of_the_octave_below(from_bin, share):
    masks = torch.zeros(1, 256, num_frames(2))
    masks[:, from_bin:] = 1  # bins are 15.7 Hz wide: from 2 kHz on, 3 kHz on, or nothing
    sound = tone(7000, 44100)
    stem = masked(sound, masks, 44100)
    assert np.std(stem) / np.std(sound) == pytest.approx(share, abs=0.01)


def test_bins_keep_their_frequencies_at_rates_that_are_no_multiple():
    masks = torch.zeros(1, 256, num_frames(2))
    masks[:, 60:68] = 1  # 941 to 1051 Hz
    for hz, share in ((1000, 1.0), (800, 0.0), (1200, 0.0)):
        for rate_hz in (11025, 48000):
            sound = tone(hz, rate_hz)
            inside = slice(rate_hz // 4, -rate_hz // 4)
            kept = np.std(masked(sound, masks, rate_hz)[0, 0, inside]) / np.std(sound)
            assert kept == pytest.approx(share, abs=0.02)
