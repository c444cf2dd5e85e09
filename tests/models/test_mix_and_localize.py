"""Mix-and-Localize's walk, written out, and which head answers for which class."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cocktail.audio.mixing import superpose
from cocktail.models.mix_and_localize import MixAndLocalizeConfig
from cocktail.train.validation import Validation
from cocktail.train.worker import Worker
from cocktail.types import NO_CLASS, Query, UsageError
from pipelines.experiments.benchmarks import SCENES
from tests.made.corpora.shapes_and_tones import RATE, SIDE, scenes
from tests.made.models.small_avgn import C, pictures_of
from tests.made.models.small_class_maps import BATCH, build, learned_by_heart, pair_scores

WINDOW = round(0.4 * RATE)


def test_a_walk_is_to_end_at_the_head_where_it_began():
    model = build("mix_and_localize").eval()
    mixture, locations = superpose(BATCH), model.locations(pictures_of(BATCH), "split")
    first, last = model.sounds(mixture[:, :WINDOW]), model.sounds(mixture[:, -WINDOW:])
    total = torch.zeros(())
    for b in range(3):
        likeness = [
            torch.stack([torch.stack([(picture @ head).max() for picture in locations[b]]) for head in heads[b]]) / 0.07
            for heads in (last, first)
        ]
        there, back = likeness[0].softmax(dim=1), likeness[1].softmax(dim=0).T
        total = total - (there @ back).diagonal().log().sum()
    torch.testing.assert_close(model(BATCH)["total"], total / 6)


def test_it_is_noted_where_pictures_of_each_class_walk_and_no_label_reaches_the_loss():
    model = build("mix_and_localize", head_memory=0.0).train()
    losses = model(BATCH)
    model.requires_grad_(False)
    first = model.sounds(superpose(BATCH)[:, :WINDOW])
    back = model._likeness(first, model.locations(pictures_of(BATCH), "split")).softmax(dim=2)
    for class_id in range(C):
        torch.testing.assert_close(
            model.heads_of_classes.means()[class_id], back[BATCH.class_ids == class_id].mean(dim=0)
        )
    other = scenes([[1, 2], [3, 0], [0, 1]])
    assert model.eval()(BATCH)["total"].equal(model(replace(BATCH, class_ids=other.class_ids))["total"])
    assert losses["total"].equal(losses["localization"])


def test_notes_of_held_out_mixtures_take_the_place_of_trainings_but_for_classes_that_are_not_among_them():
    model = build("mix_and_localize").eval()
    model.heads_of_classes.get_buffer("sums").fill_(7.0)
    model.heads_of_classes.get_buffer("weights").fill_(10.0)
    parts = [scenes([[0, 1], [1, 3]]), scenes([[0, 3]])]
    parts[1].class_ids[0, 1] = NO_CLASS
    validated = Validation(batches=tuple(parts)).losses(model, Worker(device=torch.device("cpu")), None)
    model.eval()
    walks: dict[int, list[torch.Tensor]] = {}
    for part in parts:
        first = model.sounds(superpose(part)[:, :WINDOW])
        back = model._likeness(first, model.locations(pictures_of(part), "split")).softmax(dim=2)
        for class_id, walk in zip(part.class_ids.flatten().tolist(), back.flatten(0, 1), strict=True):
            walks.setdefault(class_id, []).append(walk)
    for class_id in range(C):
        expected = torch.stack(walks[class_id]).mean(dim=0) if class_id in walks else torch.full((2,), 0.7)
        torch.testing.assert_close(model.heads_of_classes.means()[class_id], expected)
    assert sorted(walks) == [NO_CLASS, 0, 1, 3]
    losses = [model(part)["total"].item() * len(part) for part in parts]
    assert validated["validation/total"] == pytest.approx(sum(losses) / 3)


def test_a_class_has_the_head_that_its_pictures_walked_to_and_no_two_have_one():
    model = build("mix_and_localize").eval()
    notes = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3], [0.5, 0.5]])
    model.heads_of_classes.get_buffer("sums").copy_(notes)
    model.heads_of_classes.get_buffer("weights").fill_(1)
    sounds = model.sounds(superpose(BATCH))
    for asked, heads in (
        ([[0, 1]] * 3, [0, 1]),
        ([[1, 0]] * 3, [1, 0]),
        ([[3, 2]] * 3, [0, 1]),
        ([[2, NO_CLASS]] * 3, [1, 0]),
        ([[2]] * 3, [1]),
    ):
        assert model.of_classes_heard(sounds, torch.tensor(asked)).equal(sounds[:, heads])
    named = model.localize(
        superpose(BATCH), Query.naming(torch.tensor([[2], [3], [2]]), pictures_of(BATCH)[:, :, None])
    )
    assert named.maps.shape == (3, 1, SIDE, 2 * SIDE) and named.class_ids.tolist() == [[2], [3], [2]]


def test_without_names_each_source_has_a_head_and_there_are_no_more_sources_than_heads():
    model = build("mix_and_localize").eval()
    blind = model.localize(superpose(BATCH), Query.blind(torch.tensor([2, 2, 2]), pictures_of(BATCH)[:, :, None]))
    assert blind.maps.shape == (3, 2, SIDE, 2 * SIDE) and blind.class_ids.eq(NO_CLASS).all()
    three = scenes([[0, 3, 4], [2, 1, 0]])
    with pytest.raises(UsageError, match="3 sources, and the network has 2 heads"):
        model.localize(superpose(three), Query.of(three))
    of_three = replace(SCENES, num_sources=3)
    with pytest.raises(UsageError, match=r"raise --model\.num-heads"):
        MixAndLocalizeConfig().require_test_mixing(of_three)
    MixAndLocalizeConfig().fitted_to(of_three).require_mixing(of_three)


def test_a_walk_can_be_closed_without_hearing():
    """Of two pictures one head may look for one thing and the other for another, whatever sounds: what the loss teaches
    is to tell a mixture's pictures apart, and all that is in them sounds. So maps on objects are no sign of hearing."""
    batch = scenes([[0, 3], [2, 1], [4, 0], [1, 4], [3, 2]], one_background=True)
    silent = replace(batch, sources=torch.zeros_like(batch.sources))
    model, ((before, after),) = learned_by_heart(["mix_and_localize"], silent)
    assert after < 0.5 * before and pair_scores(model, silent).diagonal().min() > 0.35
