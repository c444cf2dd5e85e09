"""Ideal masks separate what does not overlap, on a model's own grid or the common one."""

import pytest
import torch
from torch import nn

from cocktail.audio.ideal_masks import IDEAL_BINARY_MASK, IDEAL_RATIO_MASK, grid_of, ideal_separations
from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEndConfig
from tests.made.models.small_sgn import SMALL, tones

CPU = torch.device("cpu")


def test_a_model_is_scored_on_its_own_grid_and_one_without_on_the_common_one():
    model = SMALL.build(5)
    assert grid_of(model, CPU) is model.front_end
    assert grid_of(nn.Identity(), CPU).config == FrontEndConfig()


@pytest.mark.parametrize("model", [SMALL.build(5), nn.Identity()])
@pytest.mark.parametrize("kind", [IDEAL_BINARY_MASK, IDEAL_RATIO_MASK])
def test_ideal_masks_separate_tones_that_do_not_overlap(model, kind):
    mixture, references = mix(tones([[0, 4]]))
    estimates = ideal_separations(grid_of(model, CPU), mixture, references)[kind].estimates
    error = (estimates - references[..., : estimates.shape[-1]])[..., 200:-200]
    assert error.square().mean() < 1e-2 * references.square().mean()
    assert (mixture[:, None] - references).square().mean() > 0.1 * references.square().mean()
