"""The U-Net's size, and the folded head against the plain one."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cocktail.layers.mask_head import MapHead, MaskHead
from cocktail.layers.unet import UNet
from tests.made.models.plain_head import PlainMaskHead


def random_head(dtype: torch.dtype) -> tuple[MaskHead, Tensor, Tensor]:
    torch.manual_seed(0)
    head = MaskHead(in_channels=6, num_maps=10).to(dtype)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    features = torch.randn(3, 6, 8, 12, dtype=dtype, requires_grad=True)
    vectors = torch.randn(3, 2, 10, dtype=dtype, requires_grad=True)
    return head, features, vectors


def test_folded_head_equals_the_plain_one_in_values_and_gradients():
    head, features, vectors = random_head(torch.float64)
    leaves = [features, vectors, *head.parameters()]
    folded, plain = head(features, vectors), PlainMaskHead.of(head)(features, vectors)
    torch.testing.assert_close(folded, plain, atol=1e-12, rtol=0)
    weights = torch.randn_like(plain)
    for ours, expected in zip(
        torch.autograd.grad((folded * weights).sum(), leaves),
        torch.autograd.grad((plain * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-12)


def test_folded_head_equals_the_plain_one_in_float32_at_the_papers_size():
    torch.manual_seed(0)
    head = MaskHead(in_channels=128, num_maps=256, conv_init_std=0.02)
    features, vectors = torch.randn(1, 128, 128, 128).relu(), torch.randn(1, 2, 256)
    with torch.no_grad():
        folded, plain = head(features, vectors), PlainMaskHead.of(head)(features, vectors)
    assert 8 < plain.abs().max() < 40
    torch.testing.assert_close(folded, plain, atol=1e-4, rtol=0)


def test_paper_size_has_the_known_number_of_parameters():
    unet, head = UNet(width=64, depth=7), MaskHead(128, 256)
    counted = sum(p.numel() for p in unet.parameters()) + head.weight.numel() + head.map_bias.numel()
    assert counted == 30_532_482


def test_features_have_half_the_size_and_twice_the_width():
    assert UNet(width=8, depth=5)(torch.randn(2, 1, 64, 96)).shape == (2, 16, 32, 48)


def test_normalisation_is_absent_from_the_first_and_last_halving():
    blocks = [list(block.children()) for block in UNet(width=8, depth=7).down]
    norms = [isinstance(norm, torch.nn.BatchNorm2d) for _, norm in blocks]
    assert norms == [False, True, True, True, True, True, False]


def test_too_shallow_a_unet_is_refused():
    with pytest.raises(ValueError, match="at least 5"):
        UNet(width=8, depth=4)


class Operators(TorchDispatchMode):
    """Names of what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_the_heads_gradient_is_not_added_up_out_of_slices():
    head, features, vectors = random_head(torch.float32)
    with Operators() as seen:
        head(features, vectors).sum().backward()
    assert not [name for name in seen.names if "slice" in name or "constant_pad" in name]
    assert "aten.convolution_backward.default" in seen.names


def test_the_head_adds_its_taps_in_float32_under_autocast(monkeypatch):
    head, features, vectors = random_head(torch.float32)
    for bias in (head.map_bias, head.bias):
        torch.nn.init.zeros_(bias)
    upsampled: list[Tensor] = []
    interpolate = F.interpolate
    monkeypatch.setattr(F, "interpolate", lambda x, **how: upsampled.append(interpolate(x, **how)) or upsampled[-1])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(features, vectors)
    taps = F.pad(upsampled[0].float(), (1, 1, 1, 1)).view(3, 2, 3, 3, 18, 26)
    added = torch.stack([taps[:, :, r, c, r : r + 16, c : c + 24] for r in range(3) for c in range(3)]).sum(dim=0)
    assert upsampled[0].dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, added, atol=1e-5, rtol=1e-5)


def test_a_map_head_is_the_mask_head_whose_vectors_pick_one_map_each():
    head, features, _ = random_head(torch.float64)
    maps = MapHead(in_channels=6, num_masks=10).to(torch.float64)
    with torch.no_grad():
        maps.weight.copy_(head.weight)
        maps.bias.copy_(head.map_bias + head.bias)
        head.scale.fill_(1.0)
    one_each = torch.eye(10, dtype=torch.float64).expand(3, -1, -1)
    torch.testing.assert_close(maps(features), head(features, one_each), atol=1e-12, rtol=0)


def test_a_unet_may_hear_several_channels():
    one, two = UNet(width=8, depth=5), UNet(width=8, depth=5, in_channels=2)
    assert two(torch.randn(2, 2, 64, 96)).shape == (2, 16, 32, 48)
    different = {name for name, value in two.state_dict().items() if value.shape != one.state_dict()[name].shape}
    assert {name.rpartition(".")[0] for name in different} == {"input_norm", "down.0.0"}
