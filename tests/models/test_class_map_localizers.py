"""What localizers with a map a class share, each on a small network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.audio.mixing import superpose
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.config.settings import require_kept
from cocktail.layers.classes import PREDICTED_CLASSES
from cocktail.layers.two_towers import WITH_OBJECT_PRIOR
from cocktail.layers.views import View
from cocktail.models.dsol import WHATEVER_SOUNDS
from cocktail.types import Classifier, Localizer, Query, Separator, UsageError
from tests.made.corpora.shapes_and_tones import SIDE, scenes
from tests.made.models.finite_differences import assert_gradients_are_differences, away_from_kinks
from tests.made.models.object_prior import blended_with_prior
from tests.made.models.small_avgn import MIXING, C, pictures_of
from tests.made.models.small_class_maps import (
    BATCH,
    CLASS_MAPS,
    build,
    learned_by_heart,
    pair_scores,
    pair_scores_by_mixture,
)

AFTER = {"coarse": ("coarse", "fine"), "single": ("single", "mixtures"), "mix_and_localize": ("mix_and_localize",)}
"""The stages of each, by the first."""


@pytest.mark.parametrize("name", CLASS_MAPS)
def test_it_localizes_named_classes(name):
    model = build(name)
    assert isinstance(model, Localizer) and not isinstance(model, Separator)
    assert isinstance(model, Classifier) == (name in ("coarse", "fine"))
    require_kept(CLASS_MAPS[name], "model.")
    require_built_without_values(CLASS_MAPS[name], C)


@pytest.mark.parametrize("name", CLASS_MAPS)
def test_maps_are_those_of_the_named_classes_in_their_order_in_either_view(name):
    views: tuple[View, ...] = ("wide", "split")
    for view in views:
        model = build(name, view=view).eval()
        mixture, pictures = superpose(BATCH), pictures_of(BATCH)[:, :, None]
        own = model.localize(mixture, Query.naming(BATCH.class_ids, pictures))
        other = own.alternatives["split" if view == "wide" else "wide"]
        for width, found in ((2 * SIDE, (own, other)[view == "split"]), (SIDE, (own, other)[view == "wide"])):
            assert found.maps.shape == (3, 2, SIDE, width) and found.class_ids.equal(BATCH.class_ids)
            assert found.maps.isfinite().all() and found.maps.std() > 0
        turned = model.localize(mixture, Query.naming(BATCH.class_ids.flip(1), pictures))
        wide, back = (each if view == "wide" else each.alternatives["wide"] for each in (own, turned))
        torch.testing.assert_close(wide.maps, back.maps.flip(1))
        assert not torch.allclose(wide.maps[:, 0], wide.maps[:, 1])
        assert own.intermediates["audio_vectors"].shape[:2] == own.intermediates["visual_vectors"].shape[:2] == (3, 2)


@pytest.mark.parametrize("name", ["coarse", "fine", "single", "mixtures"])
def test_classes_that_are_heard_have_maps_as_if_they_were_named(name):
    model = build(name).eval()
    own = model.localize(superpose(BATCH), Query.of(BATCH))
    predicted, presence = own.alternatives[PREDICTED_CLASSES], own.intermediates["presence"]
    assert presence.shape == (3, C) and presence.ge(0).all() and presence.le(1).all()
    assert predicted.class_ids.equal(presence.topk(2).indices)
    named = model.localize(superpose(BATCH), Query.naming(predicted.class_ids, pictures_of(BATCH)[:, :, None]))
    torch.testing.assert_close(predicted.maps, named.maps)
    assert (WHATEVER_SOUNDS in own.alternatives) == (name in ("single", "mixtures"))


@pytest.mark.parametrize("name", CLASS_MAPS)
def test_one_picture_of_both_sources_has_a_map_for_each(name):
    batch = scenes([[0, 3], [2, 1]], together=True)
    own = build(name).eval().localize(superpose(batch), Query.of(batch))
    assert own.maps.shape == (2, 2, SIDE, SIDE) and "split" not in own.alternatives


@pytest.mark.parametrize("view", ["wide", "split"])
@pytest.mark.parametrize("name", CLASS_MAPS)
def test_maps_of_all_classes_are_blended_with_what_looks_like_an_object(name, view):
    plain, model = (build(name, view=view, ogl_alpha=share).eval() for share in (None, 0.4))
    query, sound = Query.naming(BATCH.class_ids, pictures_of(BATCH)[:, :, None]), superpose(BATCH)
    own = model.localize(sound, query)
    assert own.maps.equal(plain.localize(sound, query).maps)
    blended = own.alternatives[WITH_OBJECT_PRIOR]
    assert blended.class_ids.equal(own.class_ids) and blended.maps.shape == own.maps.shape
    for b, pictures in enumerate(pictures_of(BATCH)):
        for n in range(2):
            shown = torch.cat(list(pictures), dim=1) if view == "wide" else pictures[n]
            expected = blended_with_prior(own.maps[b, n], model.object_prior.resnet, shown, 0.4)
            torch.testing.assert_close(blended.maps[b, n], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CLASS_MAPS)
def test_all_that_learns_in_its_stage_has_a_gradient_and_the_rest_none(name):
    model = build(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model(BATCH)["total"].backward()
    resting = {
        "coarse": ("align_audio.", "align_visual."),
        "single": ("log_class_scale",),
        "mixtures": ("audio_encoder.", "audio_head.", "visual_head."),
    }.get(name, ("nothing",))
    for parameter, value in model.named_parameters():
        learns = value.grad is not None and bool(value.grad.abs().sum() > 0)
        assert learns != parameter.startswith(resting), parameter
    kept = [key for key, value in model.state_dict().items() if key.startswith(resting) and "running" in key]
    assert all(model.state_dict()[key].equal(before[key]) for key in kept) and bool(kept) == (name == "mixtures")


@pytest.mark.parametrize("name", ["fine", "single", "mixtures", "mix_and_localize"])
def test_gradients_are_exact_in_double_precision(name, monkeypatch):
    model = build(name, width=4, resnet_width=1, visual_stages=2).double().eval()
    away_from_kinks(model)
    kept: dict[int, Tensor] = {}
    if name == "fine":  # through Grad-CAM itself no gradient passes
        grad_cam = model.grad_cam
        monkeypatch.setattr(model, "grad_cam", lambda head, *rest: kept.setdefault(id(head), grad_cam(head, *rest)))
    batch = BATCH.rows(0, 2)
    assert_gradients_are_differences(lambda: model(batch)["total"], model.named_parameters())


@pytest.mark.parametrize("name", ["fine", "single", "mixtures", "mix_and_localize"])
def test_bfloat16_autocast_gives_the_loss_of_float32_to_its_precision(name):
    model = build(name).eval()
    exact = model(BATCH)["total"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(BATCH)["total"]
    rounded.backward()
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.0)


SWITCHES = [
    ("coarse", {"margin": 1.0}, set()),
    ("coarse", {"alignment_weight": 2.0}, set()),
    ("coarse", {"correspondence_weight": 2.0}, {"loss"}),
    ("coarse", {"stage": "fine"}, {"loss", "maps"}),
    ("fine", {"margin": 1.9}, {"loss"}),
    ("fine", {"alignment_weight": 2.0}, {"loss"}),
    ("fine", {"align_width": 4}, {"loss", "maps"}),
    ("single", {"mask_threshold": 0.99}, {"loss"}),
    ("single", {"initial_scale": 2.0}, {"loss", "maps"}),
    ("single", {"initial_class_scale": 2.0}, {"maps"}),
    ("single", {"suppression": False}, {"maps"}),
    ("single", {"correspondence_weight": 2.0}, set()),
    ("single", {"stage": "mixtures"}, {"loss"}),
    ("mixtures", {"initial_class_scale": 2.0}, {"loss", "maps"}),
    ("mixtures", {"suppression": False}, {"loss", "maps"}),
    ("mixtures", {"correspondence_weight": 2.0}, {"loss"}),
    ("mix_and_localize", {"temperature": 0.3}, {"loss"}),
    ("mix_and_localize", {"window_seconds": 0.3}, {"loss"}),
    ("mix_and_localize", {"num_heads": 3}, {"loss", "maps"}),
    ("mix_and_localize", {"view": "split"}, {"maps"}),
    *((name, {"dilate": True}, {"loss", "maps"}) for name in CLASS_MAPS),
    *((name, {"view": "split"}, {"loss", "maps"}) for name in ("coarse", "fine", "mixtures")),
    ("single", {"view": "split"}, {"maps"}),
]


@pytest.mark.parametrize(
    ("name", "switch", "changes"), SWITCHES, ids=lambda value: "" if isinstance(value, set) else str(value)
)
def test_a_switch_changes_what_it_names(name, switch, changes):
    seen = []
    for switches in ({}, switch):
        model = build(name, **switches).eval()
        maps = model.localize(superpose(BATCH), Query.of(BATCH)).maps
        seen.append({"maps": maps, "loss": torch.stack(list(model(BATCH).values())).detach()})
    plain, thrown = seen
    assert changes == {
        what
        for what, value in thrown.items()
        if value.shape != plain[what].shape or not torch.allclose(value, plain[what], rtol=1e-5, atol=1e-6)
    }


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("fine", {"margin": 2.1}, r"margin must be in \(0, 2\]"),
        ("fine", {"align_width": 0}, "align_width must be at least 1"),
        ("fine", {"alignment_weight": -1.0}, "alignment_weight must not be negative"),
        ("single", {"initial_scale": 0.0}, "initial_scale must be positive"),
        ("single", {"initial_class_scale": -1.0}, "initial_class_scale must be positive"),
        ("single", {"mask_threshold": 1.0}, r"mask_threshold must be in \[0, 1\)"),
        ("single", {"dictionary_memory": 1.0}, r"dictionary_memory must be in \[0, 1\)"),
        ("mixtures", {"correspondence_weight": -0.5}, "correspondence_weight must not be negative"),
        ("mix_and_localize", {"num_heads": 1}, "one has nothing to choose"),
        ("mix_and_localize", {"temperature": 0.0}, "temperature must be positive"),
        ("mix_and_localize", {"window_seconds": 0.0}, "window_seconds must be at least 0.1"),
        ("mix_and_localize", {"head_memory": 1.0}, r"head_memory must be in \[0, 1\)"),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, change, message):
    with pytest.raises(UsageError, match=message):
        replace(CLASS_MAPS[name], **change)


@pytest.mark.parametrize("name", CLASS_MAPS)
def test_mixtures_that_it_cannot_learn_from_are_refused(name):
    config = CLASS_MAPS[name]
    config.require_mixing(MIXING)
    refused: list[tuple[dict[str, Any], str]] = [({"min_sources": 1}, "one number of sources")]
    if name == "mix_and_localize":
        refused += [({"num_sources": 3}, "--model.num-heads"), ({"num_sources": 1}, "two sources or more")]
        with pytest.raises(UsageError, match=r"no two windows of 1\.5 s"):
            replace(config, window_seconds=1.5).require_mixing(MIXING)
    else:
        refused += [({"distinct_classes": False}, "by their class")]
    if name in ("single", "mix_and_localize"):
        refused += [({"arrangement": "whole"}, "--mixing.arrangement whole")]
    else:
        config.require_mixing(replace(MIXING, arrangement="whole"))
    for change, message in refused:
        with pytest.raises(UsageError, match=message):
            config.require_mixing(replace(MIXING, **change))


@pytest.mark.parametrize("first", AFTER)
def test_one_batch_is_learned_by_heart_with_each_map_on_its_own_source(first):
    """Pictures of one background, told apart by their squares alone, of which each class is in several: neither names
    nor backgrounds say where."""
    batch = scenes([[0, 3], [2, 1], [4, 0], [1, 4], [3, 2]], one_background=True)
    model, losses = learned_by_heart(AFTER[first], batch)
    assert all(after < 0.6 * before for before, after in losses)
    assert batch.truth is not None
    own, chance = pair_scores(model, batch), batch.truth.float().mean().item() / 2
    assert own.diagonal().min() > 5 * chance and own.diagonal().mean() > 1.5 * own.flip(0).diagonal().mean()
    # By names alone maps may lie on what is seen of a class, whether it sounds or not: then silence changes nothing.
    deaf = pair_scores(model, replace(batch, sources=torch.zeros_like(batch.sources)))
    lost = float(own.diagonal().mean() - deaf.diagonal().mean())
    assert lost > 0.2 if first == "coarse" else abs(lost) < 0.05
    if first == "single":  # so what DSOL hears is in the map that names nothing: it lies on the square that sounds
        for n in (0, 1):
            heard = replace(batch, gains=batch.gains * F.one_hot(torch.tensor(n), 2))
            found = pair_scores_by_mixture(model, heard, WHATEVER_SOUNDS).mean(dim=(0, 1))
            assert found[n] > 1.5 * found[1 - n]
