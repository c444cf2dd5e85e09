"""Checkpoints written before go on being loaded: each model's weights keep their names and sizes."""

from dataclasses import replace
from pathlib import Path

import pytest

from cocktail.models.avgn import SMALL_AVGN
from cocktail.models.conv_tasnet import SMALL_CONV_TASNET
from cocktail.models.ez_vsl import SMALL_EZ_VSL
from cocktail.models.hdemucs import SMALL_HDEMUCS
from cocktail.models.sgn import SMALL_SGN
from cocktail.models.wave_unet import SMALL_WAVE_U_NET

WRITTEN_DOWN = Path(__file__).parent / "weights_of_checkpoints"


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sgn", replace(SMALL_SGN, num_frames=256)),
        ("avgn", SMALL_AVGN),
        ("ez_vsl", SMALL_EZ_VSL),
        ("wave_unet", replace(SMALL_WAVE_U_NET, class_head=True)),
        ("conv_tasnet", SMALL_CONV_TASNET),
        ("hdemucs", SMALL_HDEMUCS),
    ],
)
def test_weights_have_the_names_and_sizes_that_checkpoints_have(name, config):
    weights = config.build(11).state_dict()
    lines = [f"{key} ({', '.join(str(length) for length in value.shape)})" for key, value in weights.items()]
    assert lines == (WRITTEN_DOWN / f"{name}.txt").read_text().splitlines()
