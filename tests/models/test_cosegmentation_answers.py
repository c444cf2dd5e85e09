"""What a co-segmentation model answers: sounds in the order of the pictures, classes, and maps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cocktail.audio.mixing import mix, superpose
from cocktail.layers.classes import PREDICTED_CLASSES
from cocktail.layers.masking import SOFT_MASKS
from cocktail.models.cosegmentation import NAMED_CLASSES, SPLIT, CoSegmentation, MaskCoefficients, Seen
from cocktail.types import NO_CLASS, Classifier, Localizer, Query, Separator, UsageError
from tests.made.models.small_cosegmentation import NUM_CLASSES, SMALL, WHOLE_PICTURES, duets
from tests.made.models.small_sound_of_pixels import MIXING, seen_and_heard

BATCH = seen_and_heard([[0, 3], [2, 1]])
DUETS = duets([[[0, 3], [1]], [[2], [4]]])
MIXTURE = mix(BATCH)[0]
assert BATCH.pictures is not None
PICTURES = BATCH.pictures


def built(config=SMALL) -> Any:
    torch.manual_seed(0)
    return config.build(NUM_CLASSES).eval()


def like(model: Any, **settings) -> Any:
    """The same weights with other settings."""
    other = replace(model.config, **settings).build(NUM_CLASSES).eval()
    other.load_state_dict(model.state_dict())
    return other


@pytest.fixture(scope="module")
def model() -> CoSegmentation:
    """One that has learned a little, by which classes are found."""
    learning = built().train()
    batch = seen_and_heard([[0, 3], [2, 1], [4, 0], [1, 3]])
    optimizer = torch.optim.AdamW(learning.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        learning(batch)["total"].backward()
        optimizer.step()
    return learning.eval()


def test_it_separates_localizes_and_classifies_and_without_a_segmenter_only_separates():
    assert isinstance(built(), Separator) and isinstance(built(), Localizer) and isinstance(built(), Classifier)
    alone = built(WHOLE_PICTURES)
    assert type(alone) is MaskCoefficients and isinstance(alone, Separator)
    assert not isinstance(alone, Localizer | Classifier)


@pytest.mark.parametrize("config", [SMALL, WHOLE_PICTURES])
def test_estimates_are_in_the_order_of_the_pictures_whatever_is_named(config):
    model, query = built(config), Query.of(BATCH)
    assert query.pictures is not None and query.class_ids is not None
    own = model.separate(MIXTURE, query)
    assert own.in_order and all(other.in_order for other in own.alternatives.values())
    assert own.estimates.shape == (2, 2, 63 * 64) and own.class_ids.equal(query.class_ids)
    turned = replace(query, pictures=query.pictures.flip(1), class_ids=query.class_ids.flip(1))
    other = model.separate(MIXTURE, turned)
    torch.testing.assert_close(other.masks.flip(1), own.masks)
    assert not torch.allclose(own.masks[:, 0], own.masks[:, 1], atol=1e-5)
    for ids in (None, torch.full_like(query.class_ids, NO_CLASS), query.class_ids.flip(1)):
        named_otherwise = model.separate(MIXTURE, replace(query, class_ids=ids))
        torch.testing.assert_close(named_otherwise.estimates, own.estimates)


def test_a_source_that_is_not_there_is_silent():
    batch = seen_and_heard([[0, 3, 4], [2, NO_CLASS, NO_CLASS]])
    for config in (SMALL, WHOLE_PICTURES):
        answer = built(config).separate(mix(batch)[0], Query.of(batch))
        assert answer.masks[1, 1:].eq(0).all() and answer.estimates[1, 1:].eq(0).all()
        assert answer.masks[0].gt(0).all()


def test_classes_are_those_above_the_threshold_and_one_at_least_and_not_too_many():
    model = built(replace(SMALL, presence_threshold=0.4, most_classes=2))
    presence = torch.tensor([[[0.1, 0.5, 0.45, 0.2, 0.6], [0.1, 0.3, 0.2, 0.0, 0.05], [0.0, 0.0, 0.41, 0.0, 0.9]]])
    assert [row.nonzero()[:, 0].tolist() for row in model.classes_in(presence)[0]] == [[1, 4], [1], [2, 4]]


def masks_of(model: CoSegmentation, labels: list[set[int]]) -> Tensor:
    """Masks [2, N, R, M] of the batch if its first mixture's sources had these classes, and its second's their own."""
    table = torch.zeros(2, 2, NUM_CLASSES, dtype=torch.bool)
    for n, classes in enumerate(labels):
        table[0, n, list(classes)] = True
        table[1, n, BATCH.class_ids[1, n]] = True
    seen = model.see(PICTURES, BATCH.present)
    answer = model._of_labels(MIXTURE, seen, table, BATCH.class_ids, {}, in_order=True)
    assert answer.masks is not None
    return answer.masks


def test_the_model_takes_what_it_finds_and_another_reading_what_is_named(model):
    found = model.classes_in(model.see(PICTURES, BATCH.present).scores.sigmoid())[0]
    found = [set(row.nonzero()[:, 0].tolist()) for row in found]
    own = model.separate(MIXTURE, Query.of(BATCH))
    assert own.masks is not None
    torch.testing.assert_close(own.masks[0], masks_of(model, found)[0])
    named = Query.of(replace(BATCH, class_ids=torch.tensor([[4, NO_CLASS], [2, 1]])))
    told = model.separate(MIXTURE, named).alternatives[NAMED_CLASSES]
    assert told.masks is not None
    torch.testing.assert_close(told.masks[0], masks_of(model, [{4}, found[1]])[0])
    unknown = model.separate(MIXTURE, Query.of(replace(BATCH, class_ids=torch.tensor([[5, 7], [6, NO_CLASS]]))))
    assert NAMED_CLASSES not in unknown.alternatives, "what it does not know it is not told"
    torch.testing.assert_close(unknown.estimates, own.estimates)


def test_of_several_classes_the_masks_are_added_up_or_of_any(model):
    apart = [masks_of(model, [{0}, {1}])[0, 0], masks_of(model, [{3}, {1}])[0, 0]]
    torch.testing.assert_close(masks_of(model, [{0, 3}, {1}])[0, 0], 1 - (1 - apart[0]) * (1 - apart[1]))
    shares = like(model, masks="ratio")
    torch.testing.assert_close(masks_of(shares, [{0, 3}, {1}])[0, 0], (apart[0] + apart[1]).clamp(max=1))


def test_binary_masks_are_read_soft_too_and_ratio_masks_as_they_are(model):
    binary = model.separate(MIXTURE, Query.of(BATCH))
    ratio = like(model, masks="ratio").separate(MIXTURE, Query.of(BATCH))
    assert set(binary.alternatives) == {SOFT_MASKS, NAMED_CLASSES} and set(ratio.alternatives) == {NAMED_CLASSES}
    assert not torch.allclose(binary.estimates, binary.alternatives[SOFT_MASKS].estimates)


def test_presence_is_of_each_source_and_of_the_mixture(model):
    looked_at = model.separate(MIXTURE, Query.of(BATCH)).intermediates
    presence = model.see(PICTURES, BATCH.present).scores.sigmoid()
    torch.testing.assert_close(looked_at["source_presence"], presence)
    torch.testing.assert_close(looked_at["presence"], presence.amax(dim=1))
    assert looked_at["source_vectors"].shape == (2, 2, 8)
    counts = model.confusion(DUETS)["visual_presence"]
    assert counts.shape == (NUM_CLASSES, 3) and int(counts[:, [0, 2]].sum()) == 5, "five objects are there"
    assert model.confusion(None) == {}


def test_one_picture_of_all_gives_the_named_classes_and_blindly_the_most_probable(model):
    picture = PICTURES[:, :1]
    named = Query.naming(torch.tensor([[3, 0], [1, 2]]), picture)
    answer = model.separate(MIXTURE, named)
    assert not answer.in_order and answer.class_ids.equal(named.named) and answer.estimates.shape[1] == 2
    apart = model.separate(MIXTURE, Query.naming(torch.tensor([[0, 3], [2, 1]]), picture))
    torch.testing.assert_close(apart.masks.flip(1), answer.masks)
    blind = model.separate(MIXTURE, Query.blind(torch.tensor([2, 2]), picture))
    best = model.see(picture, BATCH.present[:, :1]).scores[:, 0].topk(2).indices
    assert blind.class_ids.equal(best)
    with pytest.raises(UsageError, match="there are 1 of 2 sources"):
        built(WHOLE_PICTURES).separate(MIXTURE, named)


def test_a_single_source_is_read_as_each_of_several_is(model):
    query = replace(Query.naming(torch.tensor([[3], [1]]), PICTURES[:, :1]), by_name=False)
    alone = model.separate(MIXTURE, query)
    assert alone.in_order and alone.intermediates["source_presence"].shape == (2, 1, NUM_CLASSES)
    several = model.separate(MIXTURE, Query.of(replace(BATCH, class_ids=torch.tensor([[3, 0], [1, 2]]))))
    for own, of_several in ((alone, several), (alone.alternatives[NAMED_CLASSES], several.alternatives[NAMED_CLASSES])):
        torch.testing.assert_close(own.estimates[:, 0], of_several.estimates[:, 0])
    assert not torch.allclose(alone.estimates, alone.alternatives[NAMED_CLASSES].estimates)
    blind = model.separate(MIXTURE, Query.blind(torch.tensor([1, 1]), PICTURES[:, :1]))
    torch.testing.assert_close(blind.estimates, alone.estimates)


def test_what_is_asked_for_by_name_is_what_is_answered(model):
    ids = torch.tensor([[3, 0], [1, 2]])
    in_a_test = replace(Query.naming(ids, PICTURES), by_name=False)
    told = model.separate(MIXTURE, in_a_test).alternatives[NAMED_CLASSES]
    for n in (1, 2):  # a picture of each; one name in one picture
        wanted = model.separate(MIXTURE, Query.naming(ids[:, :n], PICTURES[:, :n]))
        assert wanted.class_ids.equal(ids[:, :n]) and NAMED_CLASSES not in wanted.alternatives
        torch.testing.assert_close(wanted.masks, told.masks[:, :n])
    assert not torch.allclose(told.masks, model.separate(MIXTURE, in_a_test).masks)
    unknown = model.separate(MIXTURE, Query.naming(torch.tensor([[7], [8]]), PICTURES[:, :1]))
    found = model.separate(MIXTURE, Query.blind(torch.tensor([1, 1]), PICTURES[:, :1]))
    torch.testing.assert_close(unknown.masks, found.masks)


def test_of_a_source_of_several_classes_all_labels_are_told(model):
    assert DUETS.pictures is not None and DUETS.labels is not None
    mixture, query = mix(DUETS)[0], Query.of(DUETS)
    seen = model.see(DUETS.pictures, DUETS.present)
    told = model.separate(mixture, query).alternatives[NAMED_CLASSES]
    expected = model._of_labels(mixture, seen, DUETS.labels, DUETS.class_ids, {}, in_order=True)
    torch.testing.assert_close(told.masks, expected.masks)
    others = replace(query, labels=DUETS.labels.roll(1, dims=2))
    assert not torch.allclose(model.separate(mixture, others).alternatives[NAMED_CLASSES].masks[0], told.masks[0])
    each = [model.localize(mixture, Query.naming(torch.tensor([[c, 1], [2, 4]]), DUETS.pictures)).maps for c in (0, 3)]
    maps = model.localize(mixture, query).maps
    torch.testing.assert_close(maps[0, 0], each[0][0, 0] + each[1][0, 0])
    torch.testing.assert_close(maps[:, 1], each[0][:, 1])
    assert query.rows(torch.tensor([1]), 2).labels.equal(DUETS.labels[1:])  # pyright: ignore[reportOptionalMemberAccess]


def test_maps_are_the_attention_of_each_class_over_all_pictures_side_by_side(model):
    sound = superpose(BATCH)
    answer = model.localize(sound, Query.of(BATCH))
    assert answer.maps.shape == (2, 2, 64, 128) and answer.in_order and answer.class_ids.equal(BATCH.class_ids)
    maps = model.see(PICTURES, BATCH.present).maps  # [2, 2, 64, C]
    for b, n, k in ((0, 0, 0), (0, 1, 0), (1, 0, 1)):
        cells = maps[b, k, :, BATCH.class_ids[b, n]].view(1, 1, 8, 8)
        grown = nn.functional.interpolate(cells, size=(64, 64), mode="bilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(answer.maps[b, n, :, 64 * k : 64 * (k + 1)], grown)
    split = answer.alternatives[SPLIT]
    assert split.in_order and split.maps.shape == (2, 2, 64, 64)
    for n in range(2):
        torch.testing.assert_close(split.maps[:, n], answer.maps[:, n, :, 64 * n : 64 * (n + 1)])
    presence = model.see(PICTURES, BATCH.present).scores.sigmoid().amax(dim=1)
    assert answer.alternatives[PREDICTED_CLASSES].class_ids.equal(presence.topk(2).indices)
    torch.testing.assert_close(answer.intermediates["visual_presence"], presence)


def test_a_map_of_an_unnamed_source_is_of_the_classes_that_are_found(model):
    named = model.localize(superpose(BATCH), Query.of(BATCH))
    found = model.classes_in(model.see(PICTURES, BATCH.present).scores.sigmoid())
    ids = torch.tensor([[NO_CLASS, 3], [2, 1]])
    answer = model.localize(superpose(BATCH), Query.of(replace(BATCH, class_ids=ids)))
    torch.testing.assert_close(answer.maps[0, 1], named.maps[0, 1])
    each = [
        model.localize(superpose(BATCH), Query.of(replace(BATCH, class_ids=ids.where(ids != NO_CLASS, class_id)))).maps
        for class_id in found[0, 0].nonzero()[:, 0].tolist()
    ]
    torch.testing.assert_close(answer.maps[0, 0], torch.stack([maps[0, 0] for maps in each]).sum(dim=0))


def test_one_picture_of_two_sources_has_a_map_a_class():
    model, picture = built(), PICTURES[:, :1]
    query = Query.naming(torch.tensor([[3, 0], [1, 2]]), picture)
    answer = model.localize(MIXTURE, query)
    assert (
        answer.maps.shape == (2, 2, 64, 64) and not answer.in_order and set(answer.alternatives) == {PREDICTED_CLASSES}
    )


@pytest.mark.parametrize("score_pool", ["sum", "mean"])
def test_several_pictures_of_a_source_are_places_of_one(model, score_pool):
    model = like(model, score_pool=score_pool)
    twice = replace(BATCH, pictures=torch.cat([PICTURES, PICTURES], dim=2))
    seen, double = (model.see(batch.pictures, batch.present) for batch in (BATCH, twice))
    torch.testing.assert_close(double.scores, seen.scores)
    torch.testing.assert_close(
        model.separate(MIXTURE, Query.of(twice)).estimates, model.separate(MIXTURE, Query.of(BATCH)).estimates
    )


def test_switches_change_what_they_say_and_nothing_else(model):
    query, sound = Query.of(BATCH), superpose(BATCH)
    seen: Seen = model.see(PICTURES, BATCH.present)
    own, losses = model.separate(MIXTURE, query).alternatives[NAMED_CLASSES], model(BATCH)

    def other_of(**settings) -> tuple[Seen, Tensor, dict[str, Tensor]]:
        other = like(model, **settings)
        told = other.separate(MIXTURE, query).alternatives[NAMED_CLASSES]
        return other.see(PICTURES, BATCH.present), told.masks, other(BATCH)

    # What is seen, what is learned of it, and what is heard of what is named.
    scored, masks, of_scores = other_of(score_pool="mean")
    torch.testing.assert_close(scored.scores, seen.scores / 64)
    assert masks.equal(own.masks) and of_scores["reconstruction"].equal(losses["reconstruction"])
    assert not of_scores["visual_presence"].equal(losses["visual_presence"])
    pooled, masks, of_pool = other_of(feature_pool="literal")
    assert pooled.scores.equal(seen.scores) and of_pool["visual_presence"].equal(losses["visual_presence"])
    assert not torch.allclose(masks, own.masks, atol=1e-4)
    activated, masks, _ = other_of(attention_act="relu")
    assert activated.attention.discriminative.equal(seen.attention.discriminative)
    assert not activated.maps.equal(seen.maps) and not torch.allclose(masks, own.masks, atol=1e-4)
    squashed, masks, of_act = other_of(coef_act="tanh")
    assert squashed.maps.equal(seen.maps) and not torch.allclose(masks, own.masks, atol=1e-4)
    assert like(model, coef_act="tanh").separate(MIXTURE, query).intermediates["source_vectors"].abs().max() <= 4
    assert of_act["visual_presence"].equal(losses["visual_presence"])
    finer, _, _ = other_of(dilate=True)
    assert finer.places.shape[2] == 4 * seen.places.shape[2]
    unweighted = like(model, weighted_loss=False)(BATCH)
    assert unweighted["visual_presence"].equal(losses["visual_presence"])
    assert not unweighted["reconstruction"].equal(losses["reconstruction"])
    heavier = like(model, class_loss_weight=3.0)(BATCH)
    torch.testing.assert_close(heavier["total"], losses["reconstruction"] + 3 * losses["visual_presence"])
    shared = like(model, masks="ratio")(BATCH)
    assert shared["visual_presence"].equal(losses["visual_presence"]) and shared["total"] != losses["total"]
    for settings in ({"presence_threshold": 0.9}, {"most_classes": 1}, {"attention_dropout": 0.1}):
        same, masks, of_test = other_of(**settings)
        assert masks.equal(own.masks) and same.maps.equal(seen.maps) and of_test["total"].equal(losses["total"])
    assert like(model, dilate=True).localize(sound, query).maps.shape == (2, 2, 64, 128)


def test_a_look_at_classes_that_it_has_not_learned_counts_those_that_it_has():
    model = built()
    assert DUETS.labels is not None
    wider = replace(DUETS, labels=torch.nn.functional.pad(DUETS.labels, (0, 2)))
    assert model.confusion(wider)["visual_presence"].equal(model.confusion(DUETS)["visual_presence"])


def test_withheld_pictures_are_refused():
    mixing = replace(MIXING, shown_sources="all_but_one")
    with pytest.raises(UsageError, match="by its picture alone: leave shown_sources at all, not all_but_one"):
        SMALL.require_test_mixing(mixing)
