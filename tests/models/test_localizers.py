"""What localizers with one map for all that is heard share, each on a small network."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from cocktail.audio.mixing import superpose
from cocktail.layers.two_towers import WITH_OBJECT_PRIOR
from cocktail.layers.views import View
from cocktail.metrics.localization import average_precision
from cocktail.types import NO_CLASS, Classifier, Following, Localizer, Query, Separator, UsageError
from tests.made.corpora.shapes_and_tones import SIDE, scenes
from tests.made.models.finite_differences import assert_gradients_are_differences, away_from_kinks
from tests.made.models.learned_maps import with_plain_senses
from tests.made.models.object_prior import blended_with_prior
from tests.made.models.small_avgn import MIXING, C, pictures_of
from tests.made.models.small_localizers import LOCALIZERS

BATCH = scenes([[0, 3], [2, 1], [0, 4]])


def build(name: str, **switches: Any) -> Any:
    """A network whose weights depend on their sizes alone."""
    torch.manual_seed(0)
    return replace(LOCALIZERS[name], **switches).build(C)


@pytest.mark.parametrize("name", LOCALIZERS)
def test_it_localizes_and_knows_no_classes(name):
    model = build(name)
    assert isinstance(model, Localizer)
    assert not isinstance(model, Classifier) and not isinstance(model, Separator)
    assert isinstance(model, Following) == (name == "slavc")


@pytest.mark.parametrize("name", LOCALIZERS)
def test_one_map_for_each_picture_of_a_view_needs_no_names(name):
    views: tuple[View, ...] = ("wide", "split")
    for view in views:
        model = build(name, view=view).eval()
        query = Query.of(BATCH)
        own = model.localize(superpose(BATCH), query)
        count, width = (1, 2 * SIDE) if view == "wide" else (2, SIDE)
        assert own.maps.shape == (3, count, SIDE, width)
        assert own.maps.isfinite().all() and own.maps.flatten(1).std(dim=1).gt(0).all()
        assert own.class_ids.shape == (3, count) and own.class_ids.eq(NO_CLASS).all()
        assert {"wide", "split"} - {view} <= set(own.alternatives)
        assert model.localize(superpose(BATCH), replace(query, class_ids=None)).maps.equal(own.maps)


@pytest.mark.parametrize("name", [name for name in LOCALIZERS if name != "dmc"])  # whose map another may share
def test_another_sound_gives_another_map(name):
    model = build(name).eval()
    pictures, sound = Query.of(BATCH), superpose(BATCH)
    assert not torch.allclose(model.localize(sound, pictures).maps, model.localize(sound.roll(1, 0), pictures).maps)


@pytest.mark.parametrize("name", LOCALIZERS)
def test_every_parameter_learns(name):
    model = build(name)
    model(BATCH)["total"].backward()
    learning = [(name, p) for name, p in model.named_parameters() if not name.startswith("momentum.")]
    assert [name for name, p in learning if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(p.grad is None for name, p in model.named_parameters() if name.startswith("momentum."))


@pytest.mark.parametrize("name", LOCALIZERS)
def test_gradients_are_exact_in_double_precision(name):
    model = build(name, width=4, resnet_width=1).double().eval()
    away_from_kinks(model)
    assert_gradients_are_differences(lambda: model(BATCH)["total"], model.named_parameters())


@pytest.mark.parametrize("view", ["wide", "split"])
@pytest.mark.parametrize("name", LOCALIZERS)
def test_what_is_not_there_changes_nothing(name, view):
    """Of the third mixture nothing is there: the loss is that of the other two, and so are gradients."""
    model = build(name, view=view).eval()
    gone = replace(BATCH, present=torch.tensor([[True, True], [True, True], [False, False]]))
    losses = model(gone)
    torch.testing.assert_close(losses["total"], model(BATCH.rows(0, 2))["total"])
    assert losses["localization"].equal(losses["total"])
    losses["total"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


SWITCHES = [
    ("attention10k", {"rectified": False}, {"loss", "maps"}),
    ("ots", {"initial_scale": 3.0}, {"loss", "maps"}),
    ("dmc", {"num_centres": 3}, {"loss", "maps"}),
    ("dmc", {"num_iterations": 1}, {"loss", "maps"}),
    ("dmc", {"sharpness": 1.0}, {"loss", "maps"}),
    ("dmc", {"margin": 1.0}, {"loss"}),
    ("lvs", {"positive_threshold": 0.5}, {"loss"}),
    ("lvs", {"negative_threshold": 0.1}, {"loss"}),
    ("lvs", {"sharpness": 0.3}, {"loss"}),
    ("lvs", {"temperature": 0.3}, {"loss"}),
    ("lvs", {"hard_negatives": False}, {"loss"}),
    ("slavc", {"temperature": 0.3}, {"loss"}),
    ("slavc", {"visual_dropout": 0.1}, {"loss"}),
    ("slavc", {"audio_dropout": 0.5}, {"loss"}),
    ("slavc", {"momentum": 0.5}, set()),
    ("slavc", {"maps_by": "momentum"}, set()),  # at the start both are the same
    ("ez_vsl", {"temperature": 0.3}, {"loss"}),
    *((name, {"visual_stages": 3}, {"loss", "maps"}) for name in LOCALIZERS),
    *((name, {"dilate": True}, {"loss", "maps"}) for name in LOCALIZERS),
    *((name, {"view": "split"}, {"loss", "maps"}) for name in LOCALIZERS),
]


@pytest.mark.parametrize(
    ("name", "switch", "changes"), SWITCHES, ids=lambda value: "" if isinstance(value, set) else str(value)
)
def test_a_switch_changes_what_it_names(name, switch, changes):
    seen = []
    for switches in ({}, switch):
        model = build(name, **switches)
        maps = model.eval().localize(superpose(BATCH), Query.of(BATCH)).maps
        torch.manual_seed(1)
        seen.append({"maps": maps, "loss": model.train()(BATCH)["total"].detach()})
    plain, thrown = seen
    assert changes == {
        what
        for what, value in thrown.items()
        if value.shape != plain[what].shape or not torch.allclose(value, plain[what], rtol=1e-5, atol=1e-6)
    }


@pytest.mark.parametrize("view", ["wide", "split"])
@pytest.mark.parametrize("name", LOCALIZERS)
def test_ogl_alpha_is_the_share_of_the_maps_in_what_an_object_prior_is_blended_with(name, view):
    plain, model = (build(name, view=view, ogl_alpha=share).eval() for share in (None, 0.4))
    query, sound = Query.of(BATCH), superpose(BATCH)
    own = model.localize(sound, query)
    assert own.maps.equal(plain.localize(sound, query).maps)
    assert model(BATCH)["total"].equal(plain(BATCH)["total"])
    assert set(own.alternatives) == {WITH_OBJECT_PRIOR, *plain.localize(sound, query).alternatives}
    blended = own.alternatives[WITH_OBJECT_PRIOR]
    assert blended.class_ids.equal(own.class_ids) and blended.maps.shape == own.maps.shape
    for b, pictures in enumerate(pictures_of(BATCH)):
        shown = [torch.cat(list(pictures), dim=1)] if view == "wide" else list(pictures)
        for n, picture in enumerate(shown):
            expected = blended_with_prior(own.maps[b, n], model.object_prior.resnet, picture, 0.4)
            torch.testing.assert_close(blended.maps[b, n], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ots", {"initial_scale": 0.0}, "initial_scale must be positive"),
        ("dmc", {"num_centres": 1}, "num_centres must be at least 2"),
        ("dmc", {"num_iterations": 0}, "num_iterations must be at least 1"),
        ("dmc", {"margin": 0.0}, "margin must be positive"),
        ("dmc", {"sharpness": -1.0}, "sharpness must be positive"),
        ("lvs", {"temperature": 0.0}, "temperature must be positive"),
        ("lvs", {"sharpness": 0.0}, "sharpness must be positive"),
        ("lvs", {"negative_threshold": 0.7}, "must not be above positive_threshold"),
        ("slavc", {"temperature": 0.0}, "temperature must be positive"),
        ("slavc", {"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ("slavc", {"maps_by": "momentum", "ogl_alpha": 0.4}, "leave maps_by at online"),
        ("slavc", {"visual_dropout": 1.0}, r"visual_dropout must be in \[0, 1\)"),
        *((name, {"ogl_alpha": 1.5}, "ogl_alpha must be in") for name in LOCALIZERS),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, change, message):
    with pytest.raises(UsageError, match=message):
        replace(LOCALIZERS[name], **change)


@pytest.mark.parametrize("name", LOCALIZERS)
def test_mixtures_that_it_cannot_learn_from_are_refused(name):
    config = LOCALIZERS[name]
    config.require_mixing(replace(MIXING, distinct_classes=False))
    for change, message in (
        ({"pictures_per_source": 0}, "--mixing.pictures-per-source 1"),
        ({"picture_side": 52}, "multiple of 8"),
        ({"min_sources": 1}, "one number of sources"),
    ):
        with pytest.raises(UsageError, match=message):
            config.require_mixing(replace(MIXING, **change))
    replace(config, dilate=True).require_mixing(replace(MIXING, picture_side=52))


SAYING_NOTHING = {
    "attention10k": 1 / 4,
    "ots": math.log(2),
    "dmc": 25 / 8,
    "lvs": math.log(C),
    "slavc": 2 * math.log(C),
    "ez_vsl": 2 * math.log(C),
}
"""Least loss of five pictures that say nothing of which sound is theirs."""


@pytest.mark.parametrize(("name", "loss"), SAYING_NOTHING.items())
def test_one_batch_is_learned_by_heart_with_maps_on_what_sounds(name, loss):
    """Pictures of one background, each with a square and a sound of its own: no name and no background helps."""
    switches = {"visual_dropout": 0.0, "momentum": 0.9, "temperature": 0.1} if name == "slavc" else {}
    model = with_plain_senses(build(name, **switches), heads=2 if name == "slavc" else 1)
    if name == "slavc":
        with_plain_senses(model.momentum, heads=2).load_state_dict(model.state_dict(), strict=False)
    batch = scenes([[class_id] for class_id in range(C)], one_background=True)
    assert batch.truth is not None
    assert model(batch)["total"] > loss
    optimizer = torch.optim.AdamW(model.parameters(), 3e-2 if name == "dmc" else 1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        model(batch)["total"].backward()
        optimizer.step()
        if name == "slavc":
            model.follow()
    maps = model.eval().localize(superpose(batch), Query.of(batch)).maps
    assert model(batch)["total"] < loss / 2
    assert average_precision(maps, batch.truth).mean() > 3 * batch.truth.float().mean()
