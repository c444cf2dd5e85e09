"""The front end against its formulas, against grid_sample, and there and back."""

import math

import pytest
import torch
from torch.nn import functional as F

from cocktail.audio.stft import FrontEnd, FrontEndConfig, ShortTimeTransform


@pytest.fixture(scope="module")
def front_end() -> FrontEnd:
    return FrontEnd(FrontEndConfig())


def test_shapes_to_the_last_bin(front_end):
    transform = front_end.stft(torch.randn(3, 2, 65535))
    assert transform.shape == (3, 2, 512, 256)
    assert transform.dtype == torch.complex64
    assert front_end.warp(transform.abs()).shape == (3, 2, 256, 256)
    assert front_end.unwarp(torch.ones(3, 2, 256, 256)).shape == (3, 2, 512, 256)
    assert front_end.istft(transform).shape == (3, 2, 65280)


def test_the_inverse_gives_back_the_waveform(front_end):
    waveform = torch.rand(4, 65535) * 2 - 1
    restored = front_end.istft(front_end.stft(waveform))
    torch.testing.assert_close(restored, waveform[:, :65280], atol=2e-6, rtol=0)


def test_the_window_is_periodic_and_the_borders_reflect(front_end):
    waveform = torch.randn(65535, dtype=torch.float64)
    padded = torch.cat([waveform[1:512].flip(0), waveform])
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(1022) / 1022)
    first = torch.fft.rfft(padded[:1022] * window)
    # 1022 samples centred on sample 0: 511 reflected ones, then the signal.
    torch.testing.assert_close(front_end.stft(waveform)[:, 0], first.to(torch.complex64), atol=1e-4, rtol=1e-4)


def test_warp_then_unwarp_of_ones_is_ones(front_end):
    ones = torch.ones(1, 512, 256)
    torch.testing.assert_close(front_end.unwarp(front_end.warp(ones)), ones, atol=1e-6, rtol=0)


def test_warp_equals_grid_sample_with_aligned_corners(front_end):
    linear = torch.rand(1, 1, 512, 256)
    y = torch.linspace(-1, 1, 256, dtype=torch.float64)
    grid_y = (21 ** ((y + 1) / 2) - 11) / 10
    grid_x = torch.linspace(-1, 1, 256, dtype=torch.float64)
    grid = torch.stack(torch.broadcast_tensors(grid_x[None, :], grid_y[:, None]), dim=-1)[None].float()
    expected = F.grid_sample(linear, grid, align_corners=True)
    torch.testing.assert_close(front_end.warp(linear), expected, atol=1e-4, rtol=0)


def test_unwarp_equals_grid_sample_with_aligned_corners(front_end):
    rows = torch.rand(1, 1, 256, 256)
    y = torch.linspace(-1, 1, 512, dtype=torch.float64)
    grid_y = 2 * torch.log(10 * y + 11) / math.log(21) - 1
    grid_x = torch.linspace(-1, 1, 256, dtype=torch.float64)
    grid = torch.stack(torch.broadcast_tensors(grid_x[None, :], grid_y[:, None]), dim=-1)[None].float()
    expected = F.grid_sample(rows, grid, align_corners=True)
    torch.testing.assert_close(front_end.unwarp(rows), expected, atol=1e-4, rtol=0)


def test_129_rows_lie_below_one_kilohertz(front_end):
    bins = torch.arange(512, dtype=torch.float32)[:, None] * 11025 / 1022
    assert int((front_end.warp(bins) < 1000).sum()) == 129


def test_a_mask_of_ones_gives_back_the_mixture_and_of_zeros_silence(front_end):
    mixture = torch.rand(2, 65535) - 0.5
    masks = torch.stack([torch.ones(256, 256), torch.zeros(256, 256)]).expand(2, 2, 256, 256)
    estimates = front_end.apply_binary_mask(front_end.stft(mixture), masks)
    torch.testing.assert_close(estimates[:, 0], mixture[:, :65280], atol=2e-6, rtol=0)
    assert not estimates[:, 1].any()


def test_other_sizes_invert_too():
    front_end = FrontEnd(FrontEndConfig(n_fft=254, hop_length=64, num_rows=64))
    waveform = torch.rand(2, 64 * 64 - 1) - 0.5
    transform = front_end.stft(waveform)
    assert transform.shape == (2, 128, 64)
    torch.testing.assert_close(front_end.istft(transform), waveform[:, : 63 * 64], atol=1e-6, rtol=0)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="hop_length"):
        FrontEndConfig(n_fft=256, hop_length=200)


@pytest.mark.parametrize("length", [65535, 65536, 65279])
@pytest.mark.parametrize(("n_fft", "hop_length"), [(1022, 256), (510, 170)])
@pytest.mark.parametrize("window", ["hann", "sqrt_hann"])
def test_the_inverse_gives_back_every_sample_if_it_is_told_how_many(length, n_fft, hop_length, window):
    transform = ShortTimeTransform(n_fft, hop_length, window)
    waveform = torch.rand(2, 3, length) * 2 - 1
    restored = transform.istft(transform.stft(waveform), length)
    torch.testing.assert_close(restored, waveform, atol=5e-6, rtol=0)


def test_a_transform_by_itself_is_the_front_ends_and_its_rows_are_the_bins(front_end):
    transform = ShortTimeTransform(1022, 256)
    waveform = torch.randn(1, 65535)
    assert transform.stft(waveform).equal(front_end.stft(waveform))
    values = torch.rand(1, 512, 256)
    assert transform.warp(values).equal(values) and transform.unwarp(values).equal(values)
    assert not transform.state_dict()


def test_the_square_root_window_is_one():
    plain, root = ShortTimeTransform(64, 16), ShortTimeTransform(64, 16, "sqrt_hann")
    torch.testing.assert_close(root.get_buffer("window").square(), plain.get_buffer("window"))


def test_it_runs_in_float64_where_the_module_does():
    transform = ShortTimeTransform(64, 16).double()
    waveform = torch.randn(1, 640, dtype=torch.float64)
    assert transform.stft(waveform).dtype == torch.complex128
    torch.testing.assert_close(transform.istft(transform.stft(waveform), 640), waveform, atol=1e-14, rtol=0)
