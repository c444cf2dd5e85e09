"""Channels mixed before an upsample: the same values and gradients as after it."""

import pytest
import torch

from cocktail.layers.unet import UNet
from cocktail.layers.upsampling import mixed_upsample_conv, plain_upsample_conv, shifted_upsamples, upsample_conv


def picture(dtype: torch.dtype, height: int = 5, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, height, width, dtype=dtype, generator=generator, requires_grad=True)
    return x, torch.randn(4, 6, 3, 3, dtype=dtype, generator=generator, requires_grad=True)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_the_plain_ones(memory_format):
    x, weight = picture(torch.float64)
    x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
    mixed, plain = mixed_upsample_conv(x, weight), plain_upsample_conv(x, weight)
    torch.testing.assert_close(mixed, plain, atol=1e-12, rtol=0)
    factors = torch.randn_like(plain)
    for ours, expected in zip(
        torch.autograd.grad((mixed * factors).sum(), (x, weight)),
        torch.autograd.grad((plain * factors).sum(), (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=0)


def test_float32_is_as_close_as_rounding_allows():
    x, weight = picture(torch.float32, 32, 32)
    torch.testing.assert_close(mixed_upsample_conv(x, weight), plain_upsample_conv(x, weight), atol=1e-4, rtol=0)


def test_the_whole_unet_is_the_same_with_either():
    torch.manual_seed(0)
    unet = UNet(width=4, depth=6, conv_init_std=0.1).double()
    assert unet.upsample_conv is upsample_conv
    spectrogram = torch.randn(2, 1, 64, 64, dtype=torch.float64)
    mixed = unet(spectrogram)
    unet.upsample_conv = plain_upsample_conv
    torch.testing.assert_close(mixed, unet(spectrogram), atol=1e-12, rtol=0)


def test_the_plain_form_runs_where_it_is_as_fast_or_rounds_less(monkeypatch):
    used: list[str] = []
    for name in ("plain_upsample_conv", "mixed_upsample_conv"):
        monkeypatch.setattr(f"cocktail.layers.upsampling.{name}", lambda x, weight, name=name: used.append(name))
    many, few = torch.zeros(1, 256, 64, 64), torch.zeros(1, 64, 64, 64)
    upsample_conv(many, torch.zeros(64, 256, 3, 3))
    upsample_conv(few, torch.zeros(2, 64, 3, 3))
    upsample_conv(few, torch.zeros(16, 64, 3, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        upsample_conv(many, torch.zeros(64, 256, 3, 3))
    upsample_conv(many.to("meta"), torch.zeros(64, 256, 3, 3))
    assert used == [*["mixed_upsample_conv"] * 2, *["plain_upsample_conv"] * 3]


def test_matrices_made_in_inference_can_be_trained_with():
    shifted_upsamples.cache_clear()
    x, weight = picture(torch.float32)
    with torch.inference_mode():
        mixed_upsample_conv(x, weight)
    mixed_upsample_conv(x, weight).sum().backward()
    assert weight.grad is not None
