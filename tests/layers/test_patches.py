"""A token a patch, made of the patch."""

import pytest
import torch

from cocktail.layers.patches import patch_embedding


@pytest.mark.parametrize("kind", ["linear", "convolutions"])
def test_there_is_a_token_a_patch_and_what_lies_far_from_it_does_not_reach_it(kind):
    torch.manual_seed(0)
    embedding = patch_embedding(kind, 24, 8).eval()
    spectrogram = torch.randn(2, 1, 32, 64)
    tokens = embedding(spectrogram)
    assert tokens.shape == (2, 24, 4, 8)
    spectrogram[:, :, 16:24, 40:48] += 1
    changed = (embedding(spectrogram) != tokens).any(dim=1).nonzero()[:, 1:]
    distance = (changed - torch.tensor([2, 5])).abs().amax(dim=1)
    assert (distance == 0).any()
    assert distance.max() <= {"linear": 0, "convolutions": 1}[kind], "kernels of 3 reach into the neighbours"


def test_convolutions_halve_the_picture_once_a_level_and_widen_to_the_tokens():
    levels = [
        layer for layer in patch_embedding("convolutions", 64, 16).modules() if isinstance(layer, torch.nn.Conv2d)
    ]
    assert [(layer.in_channels, layer.out_channels, layer.stride) for layer in levels] == [
        (1, 16, (2, 2)),
        (16, 16, (2, 2)),
        (16, 32, (2, 2)),
        (32, 64, (2, 2)),
        (64, 64, (1, 1)),
    ]
