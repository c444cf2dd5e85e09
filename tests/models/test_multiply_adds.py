"""How much the papers' networks multiply in a forward pass of one mixture: counted, and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from cocktail.config.model import ModelConfig
from cocktail.layers.mask_bases import Objects
from cocktail.models.cosegmentation import CoSegmentationConfig
from cocktail.models.mp_net import MPNetConfig
from cocktail.models.sound_of_pixels import SoundOfPixelsConfig
from cocktail.models.sound_of_pixels_audio import SoundOfPixelsAudioConfig
from tests.made.models.multiply_adds import (
    AREAS,
    UNET_WIDTHS,
    counted,
    of_folded_masks,
    of_maps,
    of_plain_masks,
    of_resnet18,
    of_unet,
)
from tests.made.models.plain_head import PlainMaskHead

PIXELS = of_resnet18(dilated=True) + 9 * 512 * 32 * 14**2
"""Of Sound of Pixels' encoder and one picture."""


def spectrogram() -> Tensor:
    return torch.rand(1, 1, 256, 256, device="meta")


def pictures(each: int) -> Tensor:
    """Of two sources."""
    return torch.empty(1, 2, each, 224, 224, 3, dtype=torch.uint8, device="meta")


def present() -> Tensor:
    return torch.ones(1, 2, dtype=torch.bool, device="meta")


def built(config: ModelConfig) -> Any:
    """A network without values; its masks as the paper writes them, since autocast knows no such device. What folding
    saves is counted in tests/layers/test_unet_and_head.py."""
    with torch.device("meta"):
        model: Any = config.build(11)
        model.mask_head = PlainMaskHead.of(model.mask_head)
    return model


def test_a_resnet_has_as_many_as_torchvision_tells_of():
    """1.814 billion with the classifier of ImageNet's thousand classes."""
    theirs = torchvision.models.ResNet18_Weights.DEFAULT.meta["_ops"]
    assert round((of_resnet18(dilated=False) + 512 * 1000) / 1e9, 3) == theirs


def test_sound_of_pixels_without_pictures_multiplies_as_its_parts_do():
    """A map for each of two outputs."""
    with torch.device("meta"):
        model = SoundOfPixelsAudioConfig().build(5)
    by_hand = of_unet() + of_maps(2)
    assert counted(lambda: model.mask_logits(spectrogram())) == by_hand == 10_926_161_920


def test_sound_of_pixels_multiplies_as_its_parts_do():
    """A U-Net, and ResNets of six pictures, three a source, as the paper has them."""
    model = built(SoundOfPixelsConfig())

    def forward() -> None:
        vectors = model.visual_encoder.of_sources(pictures(3), present())
        model.mask_logits(model.features(spectrogram()), vectors)

    written = of_unet() + 6 * PIXELS + of_plain_masks(2)
    assert counted(forward) == written == 31_648_808_960
    # As it runs, with masks folded; 18 billion are of the pictures.
    assert written - of_plain_masks(2) + of_folded_masks(2) == 29_277_134_848


@pytest.mark.parametrize(
    ("stage", "written", "running"),
    [
        ("minus", 44_839_895_040, 40_052_301_824),
        ("plus", 55_707_336_704, 50_919_743_488),
        ("joint", 55_707_336_704, 50_919_743_488),
    ],
)
def test_mp_net_multiplies_as_its_parts_do_each_as_often_as_it_runs(stage, written, running):
    """The minus net hears what remains before each source; the plus net, of an input more and one map, before each but
    the first."""
    model = built(MPNetConfig(stage=stage))

    def forward() -> None:
        vectors = model.visual_encoder.of_sources(pictures(3), present())
        order = torch.tensor([[0, 1]], device="meta")
        model.take_apart(spectrogram(), vectors, present(), order)

    by_hand = 6 * PIXELS + 2 * (of_unet() + of_plain_masks(1))
    if stage != "minus":
        by_hand += of_unet(in_channels=2) + of_maps(1)
    assert counted(forward) == by_hand == written
    assert by_hand - 2 * of_plain_masks(1) + 2 * of_folded_masks(1) == running


def test_cosegmentation_multiplies_as_its_parts_do():
    """Of two sources with one picture and one object each."""
    model = built(CoSegmentationConfig())
    with torch.device("meta"):
        zeros, both = torch.zeros(2, dtype=torch.int64), torch.empty(2, dtype=torch.int64)
        objects = Objects(mixtures=zeros, sources=both, slots=zeros, class_ids=both, there=present()[..., None])

    def forward() -> None:
        seen = model.see(pictures(1), present())
        model.mask_logits(spectrogram(), seen.attended(objects, "positive"), objects)

    # Places of 7 x 7, two linear layers to eleven classes, and a mean of places.
    seeing = of_resnet18(dilated=False) + 49 * (9 * 512 * 1024 + 2 * 1024 * 11 + 1024)
    coefficients = 2 * 2 * (9 * (1024 + 512) * 512 + 512 * 128) + 128 * 32
    beside, below = UNET_WIDTHS[-2::-1], (512, 1024, 1024, 1024, 512, 256)
    gates = sum(
        width // 2 * (width * area + under * area // 4 + area)
        for width, under, area in zip(beside, below, AREAS[-2::-1], strict=True)
    )
    written = of_unet() + gates + 2 * (seeing + coefficients) + of_plain_masks(2)
    assert counted(forward) == written == 17_612_154_880
    assert written - of_plain_masks(2) + of_folded_masks(2) == 15_240_480_768
