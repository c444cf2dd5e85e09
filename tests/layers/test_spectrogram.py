"""The spectrogram that a network reads."""

import math

import torch

from cocktail.layers.spectrogram import log_spectrogram


def test_as_it_is_it_is_the_logarithm():
    assert log_spectrogram(torch.full((1, 1, 2, 2), math.e), "none").allclose(torch.ones(1, 1, 2, 2))


def test_by_mixture_it_has_zero_mean_and_unit_deviation_whatever_the_others_are():
    magnitude = torch.rand(3, 1, 16, 8) + 0.01
    normalised = log_spectrogram(magnitude, "mixture")
    assert normalised.mean(dim=(2, 3)).allclose(torch.zeros(3, 1), atol=1e-5)
    assert normalised.std(dim=(2, 3)).allclose(torch.ones(3, 1), atol=1e-5)
    assert log_spectrogram(magnitude[1:2], "mixture").allclose(normalised[1:2], atol=1e-6)


def test_a_louder_mixture_reads_the_same():
    magnitude = torch.rand(2, 1, 16, 8) + 0.01
    assert log_spectrogram(100 * magnitude, "mixture").allclose(log_spectrogram(magnitude, "mixture"), atol=1e-4)


def test_what_lies_over_100_db_below_the_loudest_bin_is_all_the_same():
    magnitude = torch.tensor([[[[1.0, 0.1, 1e-5, 1e-6, 1e-9]]]])
    normalised = log_spectrogram(magnitude, "mixture").flatten()
    assert normalised[2].isclose(normalised[3])
    assert normalised[3].isclose(normalised[4])
    assert normalised[1] > normalised[2] + 0.5


def test_silence_is_zero_and_not_a_division_by_it():
    assert log_spectrogram(torch.zeros(1, 1, 4, 4), "mixture").eq(0).all()
