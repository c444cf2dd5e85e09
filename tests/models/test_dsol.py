"""DSOL's losses of both stages, written out, its dictionary and its maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.audio.mixing import superpose
from cocktail.models.dsol import STAGES, WHATEVER_SOUNDS, DSOLConfig, best_of_quarters
from cocktail.types import NO_CLASS, Query
from tests.made.models.small_avgn import C, pictures_of
from tests.made.models.small_class_maps import BATCH, build


def correspondence(logits: Tensor, own: int) -> Tensor:
    """Of the logits [R, Z] of parts of a picture by sounds, of which one is its own."""
    others = [F.softplus(logits[r]).mean() for r in range(len(logits)) if r != own]
    return (F.softplus(-logits[own].max()) + torch.stack(others).mean()) / 2


def test_the_first_stage_learns_from_each_source_by_itself():
    model = build("single").eval()
    losses = model(BATCH)
    sounds = model.sounds(BATCH.sources.flatten(0, 1) / 32768)[:, 0].unflatten(0, (3, 2))
    locations = model.locations(pictures_of(BATCH), "split")
    of_clips, of_ears, of_eyes = [], [], []
    for b in range(3):
        for n in range(2):
            scale = model.log_scale.exp()
            logits = scale * torch.stack([(locations[b, n] @ sounds[m, n]).max() for m in range(3)])
            of_clips.append(correspondence(logits[:, None], b))
            likely = (scale * locations[b, n] @ sounds[b, n]).sigmoid()
            inside = (likely > 0.5) | (likely == likely.max())
            seen = locations[b, n][inside].mean(dim=0)
            of_ears.append(-model.audio_head(sounds[b, n]).log_softmax(0)[BATCH.class_ids[b, n]])
            of_eyes.append(-model.visual_head(seen).log_softmax(0)[BATCH.class_ids[b, n]])
    for name, expected in (("localization", of_clips), ("class", of_ears), ("visual_class", of_eyes)):
        torch.testing.assert_close(losses[name], torch.stack(expected).mean())
    torch.testing.assert_close(losses["total"], losses["localization"] + losses["class"] + losses["visual_class"])


@pytest.mark.parametrize("view", ["wide", "split"])
def test_the_second_stage_finds_what_the_ear_of_the_first_heard(view):
    model = build("mixtures", view=view, visual_stages=4).eval()
    losses = model(BATCH)
    sounds = model.sounds(superpose(BATCH))[:, 0]
    locations = model.locations(pictures_of(BATCH), view)  # of 2 x 4 cells, or of 2 x 2 each
    entries = F.normalize(model.dictionary.means(), dim=1)
    scale, divergence, of_clips = model.log_scale.exp(), [], []
    for b in range(3):
        sounding = (scale * locations[b] @ sounds[b]).sigmoid()
        maps = model.log_class_scale.exp() * (locations[b] @ entries.T).clamp(min=0) * sounding[..., None]
        found, heard = maps.flatten(0, 1).mean(dim=0).softmax(0), model.audio_head(sounds[b]).softmax(0)
        divergence.append((heard * (heard / found).log()).sum())
        for of_view in locations[b]:  # a location is a quarter of its picture
            of_clips.append(correspondence(scale * sounds @ of_view.T, b))
    torch.testing.assert_close(losses["category"], torch.stack(divergence).mean())
    torch.testing.assert_close(losses["localization"], torch.stack(of_clips).mean())
    torch.testing.assert_close(losses["total"], losses["category"] + 0.5 * losses["localization"])


def test_quarters_are_those_of_each_picture():
    cells = torch.zeros(3, 6)
    cells[0, 1], cells[2, 3], cells[1, 5], cells[2, 0] = 1, 2, 3, -1
    # Of three cells the first two are one half.
    assert best_of_quarters(cells).tolist() == [1, 0, 0, 3, 0, 2, 0, 0]
    assert best_of_quarters(torch.tensor([[4.0, 5.0]])).tolist() == [4, 5]


def test_the_dictionary_is_the_mean_object_of_each_class_and_the_second_stage_leaves_it():
    model = build("single", mask_threshold=0.0, dictionary_memory=0.0).train()
    entries = model.entries
    model(BATCH)
    assert not torch.allclose(model.entries, entries)
    model.dictionary.add(*(x[:, None] for x in (torch.eye(C, 16), torch.arange(C), torch.ones(C, dtype=torch.bool))))
    torch.testing.assert_close(model.entries, torch.eye(C, 16))
    locations = model.locations(pictures_of(BATCH), "split")  # with the statistics of this batch, as in training
    model(BATCH)
    for class_id in range(C):  # everywhere is likely enough, and of no memory the last counts alone
        objects = locations.mean(dim=2)[BATCH.class_ids == class_id]
        torch.testing.assert_close(model.dictionary.means()[class_id], objects.mean(dim=0))
    second = build("mixtures").train()
    kept = second.entries
    second(BATCH)
    assert second.entries.equal(kept)


def test_maps_are_what_looks_like_a_class_where_it_sounds():
    model = build("mixtures").eval()
    own = model.localize(superpose(BATCH), Query.of(BATCH))
    sound, place = model.sounds(superpose(BATCH))[1, 0], model.locations(pictures_of(BATCH), "wide")[1, 0, 0]
    sounding = (model.log_scale.exp() * place @ sound).sigmoid()
    likeness = model.log_class_scale.exp() * place @ model.entries[BATCH.class_ids[1, 0]]
    # In the corner nothing is interpolated.
    torch.testing.assert_close(own.maps[1, 0, 0, 0], sounding * likeness.clamp(min=0))
    alone = own.alternatives[WHATEVER_SOUNDS]
    assert alone.maps.shape[1] == 1 and alone.class_ids.eq(NO_CLASS).all()
    torch.testing.assert_close(alone.maps[1, 0, 0, 0], sounding)


def test_where_less_sounds_a_class_is_no_likelier_whatever_it_looks_like():
    model = build("mixtures").eval()
    locations, ids = model.locations(pictures_of(BATCH), "split"), BATCH.class_ids
    heard = locations[:, :, 0]  # a sound that is as the first location looks, and its opposite
    loud, faint = (model.likelihood(sound, locations, ids) for sound in (heard, -heard))
    sounds_more = model.sounding(heard, locations) >= model.sounding(-heard, locations)
    looks_like = torch.einsum("bnd,bnpd->bnp", model.entries[ids], locations)
    assert (looks_like < 0).any() and (looks_like > 0).any() and sounds_more.any()
    assert (loud >= faint)[sounds_more].all() and (loud <= faint)[~sounds_more].all()
    plain = build("mixtures", suppression=False).eval()
    assert (plain.likelihood(heard, locations, ids) < 0).any(), "what is not suppressed may be of any sign"


def test_the_papers_network_is_the_default():
    config = DSOLConfig()
    assert (config.stage, config.dilate, config.initial_scale, config.mask_threshold) == (STAGES[0], True, 5.0, 0.05)
    assert (config.correspondence_weight, config.suppression) == (0.5, True)
