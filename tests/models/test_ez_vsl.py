"""EZ-VSL's loss and maps, on a small network."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from cocktail.audio.mixing import superpose
from cocktail.layers.views import View
from cocktail.models.ez_vsl import EZVSL
from cocktail.types import NO_CLASS, Localization, Query, UsageError
from tests.made.corpora.shapes_and_tones import scenes
from tests.made.models.learned_maps import assert_maps_learn_to_point, with_locations_that_see_themselves_alone
from tests.made.models.small_avgn import MIXING, C, pictures_of
from tests.made.models.small_ez_vsl import SMALL

BATCH = scenes([[0, 3], [2, 1], [0, 4]])


@pytest.mark.parametrize("temperature", [0.03, 0.3])
def test_its_loss_is_written_out_pair_by_pair(temperature):
    assert SMALL.temperature == 0.03
    model = EZVSL(replace(SMALL, temperature=temperature)).eval()
    sounds = model.sounds(superpose(BATCH))[:, 0]
    locations = model.locations(pictures_of(BATCH), "wide")[:, 0]
    similarity = torch.stack([torch.stack([(v @ a).max() for a in sounds]) for v in locations]) / temperature
    own = torch.arange(3)
    expected = F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)
    losses = model(BATCH)
    torch.testing.assert_close(losses["total"], expected)
    assert losses["localization"].equal(losses["total"])


def test_pictures_by_themselves_are_pairs_of_their_own_with_the_mixtures_sound():
    model = EZVSL(replace(SMALL, view="split")).eval()
    sounds = model.sounds(superpose(BATCH))[:, 0]
    locations = model.locations(pictures_of(BATCH), "split")
    own, total = torch.arange(3), torch.zeros(())
    for n in range(2):
        similarity = torch.stack([torch.stack([(v @ a).max() for a in sounds]) for v in locations[:, n]]) / 0.03
        total = total + F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)
    torch.testing.assert_close(model(BATCH)["total"], total / 2)


@pytest.mark.parametrize("view", ["wide", "split"])
def test_maps_are_cosines_one_for_each_picture_of_a_view(view: View):
    model = EZVSL(replace(SMALL, view=view)).eval()
    own = model.localize(superpose(BATCH), Query.of(BATCH))
    other: View = "split" if view == "wide" else "wide"
    assert set(own.alternatives) == {other}
    sounds = model.sounds(superpose(BATCH))
    readings: dict[View, Localization] = {view: own, other: own.alternatives[other]}
    for shown, localization in readings.items():
        assert localization.class_ids.eq(NO_CLASS).all()
        locations = model.locations(pictures_of(BATCH), shown)
        expected = (locations[:, :, 0] * sounds).sum(-1)
        assert expected.shape == localization.class_ids.shape == (3, 1 if shown == "wide" else 2)
        torch.testing.assert_close(localization.maps[:, :, 0, 0], expected)  # in the corner nothing is interpolated


def test_maps_learn_to_point_at_what_sounds():
    torch.manual_seed(0)
    config = replace(SMALL, temperature=0.3)
    assert_maps_learn_to_point(with_locations_that_see_themselves_alone(EZVSL(config)), C)


def test_settings_and_mixtures_that_it_cannot_learn_from_are_refused():
    for change, message in (
        ({"temperature": -1.0}, "temperature must be positive"),
        ({"ogl_alpha": 1.5}, "ogl_alpha must be in"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)
    SMALL.require_mixing(replace(MIXING, distinct_classes=False))
    with pytest.raises(UsageError, match="one number of sources"):
        SMALL.require_mixing(replace(MIXING, min_sources=1))
    with pytest.raises(UsageError, match="multiple of 32"):
        replace(SMALL, visual_stages=2, ogl_alpha=0.4).require_test_mixing(replace(MIXING, picture_side=40))
