"""Mean spectra of classes by hand: what they measure, which gains they make, what they separate, what is refused."""

import base64
import math

import numpy as np
import pytest
import torch

from cocktail.audio import class_spectra
from cocktail.audio.class_spectra import (
    CLASS_MEAN_BINARY,
    CLASS_MEAN_WIENER,
    ClassSpectra,
    grid_at,
    num_bins_at,
    power_shares,
    power_shares_of_pieces,
)
from cocktail.types import NO_CLASS
from tests.peak_memory import peak_bytes_of

RATE = 4000
NUM_BINS = num_bins_at(RATE)


def tone(frequency_hz: float, seconds: float = 2.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.rint(8000 * np.sin(2 * math.pi * frequency_hz * time)).astype("<i2")


def of_power(*power: list[float], counts: list[int] | None = None) -> ClassSpectra:
    """Spectra of a few bins."""
    return ClassSpectra(
        sample_rate_hz=RATE,
        power=np.array(power, np.float32),
        num_clips=np.array(counts or [1] * len(power), np.int64),
    )


def gains(spectra: ClassSpectra, *class_ids: int) -> dict[str, list[list[float]]]:
    """Gains [N, F] of one mixture."""
    ids = torch.tensor([class_ids])
    return {name: mask[0].tolist() for name, mask in spectra.masks(ids, torch.ones_like(ids, dtype=torch.bool)).items()}


@pytest.mark.parametrize(("rate", "n_fft", "hop"), [(11025, 1022, 256), (22050, 2044, 512), (44100, 4088, 1024)])
def test_the_window_lasts_as_long_at_each_rate(rate, n_fft, hop):
    assert (grid_at(rate).n_fft, grid_at(rate).hop_length) == (n_fft, hop)


@pytest.mark.parametrize("length", [1, 100, 200_000])
def test_a_sound_in_pieces_has_the_same_bits_wherever_it_is_cut(length):
    generator = np.random.default_rng(length)
    sound = generator.integers(-9000, 9000, length).astype("<i2")
    whole = power_shares(sound, RATE)
    for num_cuts in (1, 3, 200):
        pieces = np.split(sound, np.sort(generator.integers(0, length + 1, num_cuts)))
        assert power_shares_of_pieces(pieces, RATE).tobytes() == whole.tobytes()


MEASURE = """
import sys
import numpy as np
from cocktail.audio.class_spectra import power_shares_of_pieces
piece = np.random.default_rng(0).integers(-9000, 9000, 44100).astype("<i2")
power_shares_of_pieces((piece for _ in range(int(sys.argv[1]))), 44100)
"""


def test_memory_does_not_grow_with_the_number_of_pieces():
    few, many = peak_bytes_of(MEASURE, 30), peak_bytes_of(MEASURE, 600)
    assert many - few < 40e6, "of the 101 MB that the other pieces are in float32"


def test_shares_of_power_are_where_the_sound_is_and_independent_of_how_loud_and_how_long():
    shares = power_shares(tone(1000), RATE)
    spacing_hz = RATE / grid_at(RATE).n_fft
    near = np.abs(np.arange(NUM_BINS) * spacing_hz - 1000) < 3 * spacing_hz
    assert shares.sum() == pytest.approx(1)
    assert shares[near].sum() > 0.99
    np.testing.assert_allclose(power_shares(tone(1000) // 8, RATE), shares, atol=1e-3)
    followed_by_silence = np.concatenate([tone(1000), np.zeros(5 * RATE, "<i2")])
    np.testing.assert_allclose(power_shares(followed_by_silence, RATE), shares, atol=1e-3)


def test_shares_of_white_noise_are_one_sided_and_the_same_in_pieces_of_any_size(monkeypatch):
    noise = np.random.default_rng(0).integers(-9000, 9000, 60 * RATE).astype("<i2")
    shares = power_shares(noise, RATE)
    inner = 1 / (NUM_BINS - 1)  # of what both edges are half
    np.testing.assert_allclose(shares[2:-2], inner, rtol=0.25)
    assert shares[[0, -1]] == pytest.approx([inner / 2] * 2, rel=0.25)
    monkeypatch.setattr(class_spectra, "_FRAMES_AT_ONCE", 7)
    np.testing.assert_allclose(power_shares(noise, RATE), shares, rtol=1e-5)


def test_a_sound_shorter_than_a_window_has_shares_too():
    assert power_shares(tone(1000, seconds=0.01), RATE).sum() == pytest.approx(1)


def test_each_bin_is_the_strongest_classs_or_divided_by_power():
    spectra = of_power([0.6, 0.1, 0.3], [0.2, 0.7, 0.1])
    found = gains(spectra, 0, 1)
    assert found[CLASS_MEAN_BINARY] == [[1, 0, 1], [0, 1, 0]]
    assert found[CLASS_MEAN_WIENER] == [pytest.approx([0.75, 0.125, 0.75]), pytest.approx([0.25, 0.875, 0.25])]
    swapped = gains(spectra, 1, 0)
    assert swapped[CLASS_MEAN_BINARY] == found[CLASS_MEAN_BINARY][::-1]


def test_equally_strong_classes_leave_a_bin_to_the_first_source():
    spectra = of_power([0.5, 0.5], [0.5, 0.5])
    assert gains(spectra, 1, 0)[CLASS_MEAN_BINARY] == [[1, 1], [0, 0]]
    assert gains(spectra, 1, 0)[CLASS_MEAN_WIENER] == [[0.5, 0.5], [0.5, 0.5]]


def test_sources_of_one_class_have_equal_shares():
    found = gains(of_power([0.75, 0.25], [0.25, 0.75]), 0, 1, 0)
    assert found[CLASS_MEAN_BINARY] == [[0.5, 0], [0, 1], [0.5, 0]]
    assert found[CLASS_MEAN_WIENER] == [
        pytest.approx([3 / 7, 0.2]), pytest.approx([1 / 7, 0.6]), pytest.approx([3 / 7, 0.2])
    ]  # fmt: skip


def test_a_bin_in_which_nothing_was_heard_is_nobodys_loss():
    found = gains(of_power([1.0, 0.0], [1.0, 0.0]), 0, 1)
    assert found[CLASS_MEAN_BINARY] == [[1, 1], [0, 0]]
    assert found[CLASS_MEAN_WIENER] == [[0.5, 0.5], [0.5, 0.5]]


def test_mixtures_with_a_source_of_no_class_or_of_one_that_was_not_measured_are_not_known():
    spectra = of_power([0.5, 0.5], [0.0, 0.0], [0.9, 0.1], counts=[3, 0, 1])
    ids = torch.tensor([[0, 2], [0, 1], [0, NO_CLASS], [0, NO_CLASS]])
    present = torch.tensor([[True, True], [True, True], [True, True], [True, False]])
    assert spectra.know(ids, present).tolist() == [True, False, False, True]
    for mask in spectra.masks(ids, present).values():
        assert mask.sum(dim=1).tolist() == [[1, 1], [0, 0], [0, 0], [1, 1]]


def test_tones_of_classes_are_separated_and_no_sample_is_lost():
    sounds = [tone(400), tone(1300)]
    spectra = of_power(*(power_shares(sound, RATE).tolist() for sound in sounds))
    sources = torch.from_numpy(np.stack(sounds)[None, :, :7001]).float() / 32768
    mixture, ids = sources.sum(dim=1), torch.tensor([[0, 1]])
    for estimates in spectra.separate(mixture, ids, ids >= 0).values():
        assert estimates.shape == sources.shape
        assert (estimates - sources)[..., 400:-400].square().mean() < 1e-4 * sources.square().mean()


def test_what_separates_is_linear_and_the_same_for_all_time():
    generator = torch.Generator().manual_seed(0)
    spectra = of_power(*torch.rand(2, NUM_BINS, generator=generator).tolist())
    ids, hop = torch.tensor([[0, 1]]), grid_at(RATE).hop_length
    a, b = 0.1 * torch.randn(2, 1, 40 * hop, generator=generator)
    for name, of_sum in spectra.separate(a + 0.5 * b, ids, ids >= 0).items():
        parts = [spectra.separate(x, ids, ids >= 0)[name] for x in (a, b)]
        torch.testing.assert_close(of_sum, parts[0] + 0.5 * parts[1], atol=1e-6, rtol=0)
        later = spectra.separate(a.roll(3 * hop, dims=-1), ids, ids >= 0)[name]
        inside = slice(10 * hop, 30 * hop)
        torch.testing.assert_close(later.roll(-3 * hop, dims=-1)[..., inside], parts[0][..., inside], atol=1e-6, rtol=0)


def test_one_source_gets_the_mixture_and_mixtures_may_be_shorter_than_a_window():
    spectra = of_power(power_shares(tone(400), RATE).tolist())
    mixture = 0.1 * torch.randn(1, 100, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[0]])
    for estimates in spectra.separate(mixture, ids, ids >= 0).values():
        torch.testing.assert_close(estimates[:, 0], mixture, atol=1e-6, rtol=0)


def test_plain_values_come_back_as_the_same_spectra():
    spectra = of_power(power_shares(tone(400), RATE).tolist(), [0.0] * NUM_BINS, counts=[7, 0])
    back = ClassSpectra.of_plain(spectra.to_plain(), 2, RATE)
    assert back.power.tobytes() == spectra.power.tobytes()
    assert (back.num_clips.tolist(), back.sample_rate_hz) == ([7, 0], RATE)


def encoded(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate_hz": 8000}, "no spectra at 4000 Hz"),
        ({"num_clips": [1]}, "how many clips each of 2 classes"),
        ({"num_clips": [1, -1]}, "how many clips"),
        ({"num_clips": [1, True]}, "how many clips"),
        ({"num_clips": [1, 1 << 80]}, "how many clips"),
        ({"num_clips": [1, 0]}, "add up to 1"),
        ({"power": None}, f"no 2 times {NUM_BINS} values"),
        ({"power": encoded(np.full((2, 9), 1 / 9))}, f"no 2 times {NUM_BINS} values"),
        ({"power": "!" * len(encoded(np.ones((2, NUM_BINS))))}, "no base64"),
        ({"power": encoded(np.full((2, NUM_BINS), np.nan))}, "add up to 1"),
        ({"power": encoded(np.full((2, NUM_BINS), np.inf))}, "add up to 1"),
        ({"power": encoded(np.eye(2, NUM_BINS) * 3 - 2 * np.eye(2, NUM_BINS, k=1))}, "add up to 1"),
    ],
)
def test_plain_values_that_are_no_spectra_are_refused(changes, message):
    plain = of_power(*np.full((2, NUM_BINS), 1 / NUM_BINS).tolist()).to_plain()
    assert ClassSpectra.of_plain(plain, 2, RATE).num_clips.tolist() == [1, 1]
    with pytest.raises(ValueError, match=message):
        ClassSpectra.of_plain(plain | changes, 2, RATE)


def test_what_is_no_mapping_and_what_is_too_much_is_refused():
    with pytest.raises(ValueError, match="no spectra"):
        ClassSpectra.of_plain([1], 2, RATE)
    plain = {"sample_rate_hz": 1 << 40, "num_clips": [1, 1], "power": ""}
    with pytest.raises(ValueError, match="more than"):
        ClassSpectra.of_plain(plain, 2, 1 << 40)
