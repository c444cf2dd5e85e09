"""Checkpoints written before go on being loaded: each model's weights keep their names and sizes."""

from dataclasses import replace
from pathlib import Path

import pytest

from cocktail.models.attention10k import SMALL_ATTENTION10K
from cocktail.models.avgn import SMALL_AVGN
from cocktail.models.avsa_sep import SMALL_AVSA_SEP
from cocktail.models.co_separation import SMALL_CO_SEPARATION
from cocktail.models.coarse_to_fine import SMALL_COARSE_TO_FINE
from cocktail.models.conv_tasnet import SMALL_CONV_TASNET
from cocktail.models.cosegmentation import SMALL_COSEGMENTATION
from cocktail.models.dmc import SMALL_DMC
from cocktail.models.dsol import SMALL_DSOL
from cocktail.models.ez_vsl import SMALL_EZ_VSL
from cocktail.models.hdemucs import SMALL_HDEMUCS
from cocktail.models.lvs import SMALL_LVS
from cocktail.models.mix_and_localize import SMALL_MIX_AND_LOCALIZE
from cocktail.models.mp_net import SMALL_MP_NET
from cocktail.models.nmf_sup import SMALL_NMF_SUP
from cocktail.models.ots import SMALL_OTS
from cocktail.models.resunet import SMALL_RESUNET
from cocktail.models.sgn import SMALL_SGN
from cocktail.models.slavc import SMALL_SLAVC
from cocktail.models.sound_of_pixels import SMALL_SOUND_OF_PIXELS
from cocktail.models.sound_of_pixels_audio import SMALL_SOUND_OF_PIXELS_AUDIO
from cocktail.models.tdcn import SMALL_TDCN
from cocktail.models.wave_unet import SMALL_WAVE_U_NET

WRITTEN_DOWN = Path(__file__).parent / "weights_of_checkpoints"


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sgn", replace(SMALL_SGN, num_frames=256, patch_embedding="linear")),
        ("avgn", SMALL_AVGN),
        ("ez_vsl", SMALL_EZ_VSL),
        ("coarse_to_fine", SMALL_COARSE_TO_FINE),
        ("dsol", SMALL_DSOL),
        ("mix_and_localize", SMALL_MIX_AND_LOCALIZE),
        ("attention10k", SMALL_ATTENTION10K),
        ("ots", SMALL_OTS),
        ("dmc", SMALL_DMC),
        ("lvs", SMALL_LVS),
        ("slavc", SMALL_SLAVC),
        ("sound_of_pixels", SMALL_SOUND_OF_PIXELS),
        ("sound_of_pixels_audio", SMALL_SOUND_OF_PIXELS_AUDIO),
        ("mp_net", SMALL_MP_NET),
        ("avsa_sep", SMALL_AVSA_SEP),
        ("co_separation", SMALL_CO_SEPARATION),
        ("cosegmentation", SMALL_COSEGMENTATION),
        ("nmf_sup", SMALL_NMF_SUP),
        ("wave_unet", replace(SMALL_WAVE_U_NET, class_head=True)),
        ("conv_tasnet", SMALL_CONV_TASNET),
        ("hdemucs", SMALL_HDEMUCS),
        ("resunet", replace(SMALL_RESUNET, sources="asked")),
        ("tdcn", SMALL_TDCN),
    ],
)
def test_weights_have_the_names_and_sizes_that_checkpoints_have(name, config):
    weights = config.build(11).state_dict()
    lines = [f"{key} ({', '.join(str(length) for length in value.shape)})" for key, value in weights.items()]
    assert lines == (WRITTEN_DOWN / f"{name}.txt").read_text().splitlines()
