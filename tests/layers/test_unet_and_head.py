"""The U-Net's size, and the folded head against the plain one."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from cocktail.layers import mask_head
from cocktail.layers.mask_head import MapHead, MaskHead
from cocktail.layers.unet import UNet
from cocktail.layers.upsampling import sum_taps
from tests.made.models.multiply_adds import of_folded_masks, of_maps, of_plain_masks
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


def test_masks_out_of_the_maps_themselves_are_those_of_the_folded_head():
    head, features, vectors = random_head(torch.float64)
    maps = head.maps(features)
    assert maps.shape == (3, 10, 16, 24)
    torch.testing.assert_close(head.of_maps(maps, vectors), head(features, vectors), atol=1e-12, rtol=0)


def test_folded_head_equals_the_plain_one_in_float32_at_the_papers_size(monkeypatch):
    torch.manual_seed(0)
    head = MaskHead(in_channels=128, num_maps=256, conv_init_std=0.02)
    features, vectors = torch.randn(1, 128, 128, 128).relu(), torch.randn(1, 2, 256)
    with torch.no_grad():
        folded, plain = head(features, vectors), PlainMaskHead.of(head)(features, vectors)
        monkeypatch.setattr(mask_head, "sum_taps", head._shift_and_add)
        folded_as_on_gpus = head(features, vectors)
        exact = PlainMaskHead.of(head).double()(features.double(), vectors.double())
    assert 8 < plain.abs().max() < 40
    torch.testing.assert_close(folded_as_on_gpus, plain, atol=1e-4, rtol=0)
    # Torch computes places of an upsample in float32; the matrices hold what float64 makes of them.
    torch.testing.assert_close(folded.double(), exact, atol=2e-5, rtol=0)


def test_folding_leaves_a_fiftieth_of_the_multiply_adds_and_on_cpus_a_fifteenth(monkeypatch):
    """Of two masks of 256 x 256 out of 128 channels by 32 maps, which alone take 2416 million, and 75.5 million each.

    A mask's nine taps before the upsample take 18.9 million, a quarter of what a map takes. Adding them up takes 5.3
    million by a convolution on GPUs, and 62.9 million by small matrices on CPUs.
    """
    head = MaskHead(in_channels=128, num_maps=32)
    features, vectors = torch.randn(1, 128, 128, 128), torch.randn(1, 2, 32)

    def multiply_adds(of: MaskHead) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            of(features, vectors)
        return counter.get_total_flops() // 2

    plain, on_cpus = multiply_adds(PlainMaskHead.of(head)), multiply_adds(head)
    monkeypatch.setattr(mask_head, "sum_taps", head._shift_and_add)
    on_gpus = multiply_adds(head)
    assert of_maps(32) == 32 * of_maps(1) == 32 * 75_497_472
    assert plain == of_plain_masks(2) == 2_420_113_408
    assert on_gpus == of_folded_masks(2) == 48_439_296
    taps = 2 * 9 * 128 * (32 + 128**2)
    by_columns, by_rows = 2 * (3 * 128) * (3 * 128) * 256, 2 * 256 * (3 * 128) * 256
    assert on_cpus == taps + by_columns + by_rows == 163_651_584
    assert plain / on_gpus > 49 and plain / on_cpus > 14


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


@pytest.fixture
def products():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 3, 3, 8, 12, dtype=torch.float64, generator=generator, requires_grad=True)


def test_taps_are_added_alike_by_one_convolution_and_by_small_matrices(products):
    head, _, _ = random_head(torch.float64)
    by_convolution, by_matrices = head._shift_and_add(products), sum_taps(products)
    torch.testing.assert_close(by_convolution, by_matrices, atol=1e-12, rtol=0)
    factors = torch.randn_like(by_matrices)
    gradients = [torch.autograd.grad((summed * factors).sum(), products)[0] for summed in (by_convolution, by_matrices)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)


def test_the_gradient_of_the_convolution_is_not_added_up_out_of_slices(products):
    head, _, _ = random_head(torch.float64)
    with Operators() as seen:
        head._shift_and_add(products).sum().backward()
    assert not [name for name in seen.names if "slice" in name or "constant_pad" in name]
    assert "aten.convolution_backward.default" in seen.names


def test_the_head_adds_its_taps_in_float32_under_autocast(monkeypatch):
    head, features, vectors = random_head(torch.float32)
    for bias in (head.map_bias, head.bias):
        torch.nn.init.zeros_(bias)
    added: list[Tensor] = []
    monkeypatch.setattr(mask_head, "sum_taps", lambda products: added.append(products) or sum_taps(products))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(features, vectors)
    assert (added[0].dtype, logits.dtype) == (torch.float32, torch.float32)
    assert torch.equal(added[0], added[0].bfloat16().float()), "the products themselves are of bfloat16"
    assert torch.equal(logits, sum_taps(added[0]))


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
