"""The power spectrum is SciPy's, and has the paper's size."""

import numpy as np
import pytest
import scipy.signal
import torch

from cocktail.audio.power_spectrum import LogPowerSpectrum, PowerSpectrumConfig


def test_three_seconds_have_the_papers_and_the_codes_size():
    three_seconds = torch.zeros(2, 66150)
    assert LogPowerSpectrum(PowerSpectrumConfig())(three_seconds).shape == (2, 1, 257, 300)
    assert LogPowerSpectrum(PowerSpectrumConfig(hop="code238"))(three_seconds).shape == (2, 1, 257, 276)


@pytest.mark.parametrize(("hop", "overlap"), [("paper300", 293), ("code238", 274)])
def test_it_is_scipys_spectrogram_in_logarithms_over_twelve(hop, overlap):
    wave = np.random.default_rng(0).uniform(-1, 1, 5000) + 0.3  # a constant, which detrending takes away
    _, _, power = scipy.signal.spectrogram(wave, fs=22050, nperseg=512, noverlap=overlap)
    ours = LogPowerSpectrum(PowerSpectrumConfig(hop=hop))(torch.from_numpy(wave)[None])[0, 0]
    np.testing.assert_allclose(ours.numpy(), np.log(power + 1e-7) / 12, atol=2e-5)


def test_silence_is_the_floor_and_no_infinity():
    assert LogPowerSpectrum(PowerSpectrumConfig())(torch.zeros(1, 1000)).eq(torch.tensor(1e-7).log() / 12).all()
