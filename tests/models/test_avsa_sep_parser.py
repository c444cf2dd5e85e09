"""AVSA-Sep's parser: what it says is heard and seen, what it learns of that, and what is made of what it says."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from cocktail.audio.mixing import mix
from cocktail.layers.classes import PREDICTED_CLASSES, PREDICTED_NUMBER
from cocktail.layers.scene_parser import SceneParser, drawn_among
from cocktail.models.avsa_sep import AVSASep
from cocktail.types import NO_CLASS, MixtureBatch, Query, UsageError
from tests.made.corpora.shapes_and_tones import scenes
from tests.made.models.finite_differences import assert_gradients_are_differences, away_from_kinks
from tests.made.models.small_avsa_sep import BATCH, PARTLY, SMALL, TRIO, changed, masks_of, showing, telling_apart, told
from tests.made.models.small_sound_of_pixels import seen_and_heard


@pytest.fixture
def model() -> AVSASep:
    return telling_apart()


def parser_of(model: AVSASep) -> SceneParser:
    assert model.parser is not None
    return model.parser


def with_two_pictures_a_source(class_ids: list[list[int]]) -> MixtureBatch:
    batch, other = seen_and_heard(class_ids), seen_and_heard(class_ids, seed=1)
    assert batch.pictures is not None and other.pictures is not None
    return replace(batch, pictures=torch.cat([batch.pictures, other.pictures], dim=2))


DRAWN_FROM = showing(
    with_two_pictures_a_source([[0, 3, 4], [2, 1, NO_CLASS], [4, 0, 1], [3, 2, 0]]),
    [[True, True, True], [True, True, False], [False, True, True], [True, True, True]],
)


def draw() -> Tensor:
    """The sources, bool [B, N], that a model draws next: one, none, two and three."""
    assert DRAWN_FROM.shown is not None
    torch.manual_seed(8)
    drawn = drawn_among(DRAWN_FROM.shown)
    assert drawn.sum(dim=1).tolist() == [1, 0, 2, 3]
    torch.manual_seed(8)
    return drawn


def test_the_parsers_losses_are_written_out_source_by_source_for_what_is_drawn(model):
    """Seen are the drawn sources, not all that are there: their pictures' places have one mean, which is added to what
    is heard."""
    parser = parser_of(model.eval())
    with torch.no_grad():  # so that what is added matters before anything is learned
        parser.visible_head.linear.weight.mul_(30)
        parser.audible_head.linear.weight.mul_(30)
    assert DRAWN_FROM.pictures is not None
    spectrogram = model.spectrogram_of(mix(DRAWN_FROM)[0])
    drawn = draw()
    losses = model(DRAWN_FROM)
    terms: defaultdict[str, list[Tensor]] = defaultdict(list)
    for b in range(4):
        vectors = {
            "parser_visible": parser.visible_audio(spectrogram[[b]])[0],
            "parser_audible": parser.audible_audio(spectrogram[[b]])[0],
        }
        pictures = [DRAWN_FROM.pictures[b, n, [p]] for n in range(3) if drawn[b, n] for p in range(2)]
        places = [parser.resnet(parser.scale(picture, torch.float32))[0].flatten(1) for picture in pictures]
        if places:
            vectors["parser_visible"] = vectors["parser_visible"] + torch.cat(places, dim=1).mean(dim=1)
        heads = {"parser_visible": parser.visible_head.linear, "parser_audible": parser.audible_head.linear}
        there = {"parser_visible": drawn[b], "parser_audible": DRAWN_FROM.present[b]}
        for name, head in heads.items():
            probability = (head.weight @ vectors[name] + head.bias).sigmoid()
            classes = DRAWN_FROM.class_ids[b][there[name]].tolist()
            terms[name] += [-(p if c in classes else 1 - p).log() for c, p in enumerate(probability)]
    for name, each in terms.items():
        torch.testing.assert_close(losses[name], torch.stack(each).mean())


def test_gradients_of_the_parser_are_differences_for_a_fixed_draw():
    torch.manual_seed(0)
    model = replace(SMALL, resnet_width=4).build(5).double().eval()
    away_from_kinks(model)
    parser = parser_of(model)
    spectrogram = model.spectrogram(torch.rand(4, 1, 32, 32, dtype=torch.float64) + 0.1)

    def loss() -> Tensor:
        draw()
        losses = model._parser_losses(parser, DRAWN_FROM, spectrogram)
        return losses["parser_visible"] + losses["parser_audible"]

    assert_gradients_are_differences(loss, parser.named_parameters())


def test_one_batch_is_learned_by_heart_with_what_is_shown_of_it_and_what_is_withheld():
    """Each class is in two mixtures, and all pictures have one background: neither sound nor background says what is
    seen, and of each mixture the parser has to say it for all, some and none of the pictures."""
    torch.manual_seed(0)
    model = SMALL.build(5)
    parser, class_ids = parser_of(model), [[0, 3], [3, 1], [1, 0]]
    batch = replace(seen_and_heard(class_ids), pictures=scenes(class_ids, one_background=True).pictures)
    mixture = mix(batch)[0]
    spectrogram = model.spectrogram_of(mixture)
    optimizer = torch.optim.AdamW(parser.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [200], 0.1)  # then BatchNorm's means come to rest
    first = losses = model._parser_losses(parser, batch, spectrogram)
    for _ in range(250):
        losses = model._parser_losses(parser, batch, spectrogram)
        optimizer.zero_grad()
        (losses["parser_visible"] + losses["parser_audible"]).backward()
        optimizer.step()
        schedule.step()
    assert all(first[name] > 0.6 and losses[name] < 0.05 for name in ("parser_visible", "parser_audible"))
    model.eval()
    heard = parser.classes_of(batch, batch.present)
    for pattern in product([True, False], repeat=2):
        of_all = showing(batch, [list(pattern)] * 3)
        assert of_all.shown is not None
        seen = parser.classes_of(of_all, of_all.shown)
        scene = model.parse(mixture, Query.of(of_all))
        assert (scene.audible > 0).equal(heard) and (scene.visible > 0).equal(seen)
        assert scene.invisible(0.5).equal(heard & ~seen)
        counts = model.confusion(of_all)
        assert all(value[:, 1:].eq(0).all() for value in counts.values())
    blind = model.parse(mixture, replace(Query.of(batch), pictures=None, seen=None))
    assert blind.visible.lt(0).all() and blind.invisible(0.5).equal(heard)


def test_the_threshold_decides_what_is_heard_and_seen_in_counts_labels_and_presence(model):
    """Of logits 3, 2 and 1 all are above a probability of 0.5, and two above one of 0.8."""
    told(model.eval(), visible=[2, 1, 0], audible=[4, 0, 3])
    strict = changed(model, parser_threshold=0.8)
    # Mixed are 0 and 3, of which 0 is seen, and 2 and 1, of which 1 is.
    counts = [{name: value.sum(dim=0).tolist() for name, value in m.confusion(PARTLY).items()} for m in (model, strict)]
    assert counts == [
        {"presence": [2, 4, 2], "visual_presence": [2, 4, 0], "invisible": [1, 3, 1]},
        {"presence": [1, 3, 3], "visual_presence": [1, 3, 1], "invisible": [0, 4, 2]},
    ]
    mixture, query = mix(TRIO)[0], Query.of(TRIO)
    own, other = (m.separate(mixture, query) for m in (model, strict))
    assert (own.presence_threshold, other.presence_threshold) == (0.5, 0.8)
    # Class 0 is seen by the lower threshold alone: by the higher it is heard and not seen. It is no second source where
    # pictures show it.
    assert own.alternatives[PREDICTED_CLASSES].class_ids.tolist() == [[0, 4, 3], [4, 1, 0]]
    assert other.alternatives[PREDICTED_CLASSES].class_ids.tolist() == [[0, 4, NO_CLASS], [4, 1, 0]]
    nobody = [NO_CLASS] * 2
    assert own.alternatives[PREDICTED_NUMBER].class_ids.tolist() == [
        [0, *nobody, 4, 3, *nobody],
        [NO_CLASS, 1, 0, 4, 3, *nobody],
    ]
    assert other.alternatives[PREDICTED_NUMBER].class_ids.tolist() == [
        [0, *nobody, 4, NO_CLASS, *nobody],
        [NO_CLASS, 1, 0, 4, NO_CLASS, *nobody],
    ]
    blind = [m.separate(mixture, replace(query, class_ids=None)).class_ids.tolist() for m in (model, strict)]
    assert blind == [[[NO_CLASS, 4, 3], [4, *nobody]], [[NO_CLASS, 4, 0], [4, *nobody]]]


def test_the_parsers_labels_are_what_is_heard_less_what_is_seen(model):
    model.eval()
    told(model, visible=[0], audible=[4, 0, 3])
    mixture, query = mix(TRIO)[0], Query.of(TRIO)
    own = model.separate(mixture, query)
    parsed = own.alternatives[PREDICTED_CLASSES]
    # Of mixture 0 (0 is seen, 3 and 4 are not) the two that are heard and not seen, surest first; of mixture 1 (1 and 0
    # are seen, 2 is not) one.
    assert parsed.class_ids.tolist() == [[0, 4, 3], [4, 1, 0]]
    masks = masks_of(own)
    torch.testing.assert_close(masks_of(parsed)[0, [0, 2, 1]], masks[0])
    assert masks_of(parsed)[1, 1:].equal(masks[1, 1:]) and not masks_of(parsed)[1, 0].equal(masks[1, 0])
    number = own.alternatives[PREDICTED_NUMBER]
    assert number.class_ids.tolist() == [
        [0, NO_CLASS, NO_CLASS, 4, 3, NO_CLASS, NO_CLASS],
        [NO_CLASS, 1, 0, 4, 3, NO_CLASS, NO_CLASS],
    ]
    assert number.estimates[0, 1:3].eq(0).all() and number.estimates[:, 5:].eq(0).all()
    # What is heard a second time is no second source of a class that is seen.
    told(model, visible=[], audible=[0])
    again = model.separate(mixture, query).alternatives[PREDICTED_CLASSES]
    assert again.class_ids[0, :2].tolist() == [0, NO_CLASS] and again.class_ids[1].tolist() == [NO_CLASS, 1, 0]


def test_a_question_without_names_is_answered_by_what_is_seen_and_by_what_the_parser_hears(model):
    model.eval()
    told(model, visible=[0], audible=[4, 0, 3])
    mixture, query = mix(TRIO)[0], Query.of(TRIO)
    blind = model.separate(mixture, replace(query, class_ids=None))
    assert blind.class_ids.tolist() == [[NO_CLASS, 4, 3], [4, NO_CLASS, NO_CLASS]]
    parsed = model.separate(mixture, query).alternatives[PREDICTED_CLASSES]
    assert masks_of(blind).equal(masks_of(parsed))
    scene = model.parse(mixture, query)
    assert scene.invisible(0.5).nonzero().tolist() == [[0, 3], [0, 4], [1, 3], [1, 4]]
    # Names for those that are not seen, pictures of the others: what a recording with people in view needs.
    partly = replace(query, class_ids=torch.tensor([[NO_CLASS, 4, 3], [4, NO_CLASS, NO_CLASS]]))
    assert masks_of(model.separate(mixture, partly)).equal(masks_of(blind))
    with pytest.raises(UsageError, match="trained without a parser"):
        changed(model, parser=False).separate(mixture, replace(query, class_ids=None))


def test_without_a_parser_only_an_unseen_source_without_a_name_is_refused(model):
    alone = changed(model, parser=False)
    query = Query.of(BATCH)
    unnamed = replace(query, class_ids=None)
    mixture = mix(BATCH)[0]
    own = alone.eval().separate(mixture, unnamed)
    assert own.estimates.equal(alone.separate(mixture, query).estimates)
    hidden = replace(Query.of(showing(BATCH, [[True, False], [True, True]])), class_ids=None)
    with pytest.raises(UsageError, match="trained without a parser"):
        alone.separate(mixture, hidden)


def test_it_says_how_well_the_parser_knows_what_is_heard_and_seen(model):
    model.eval()
    told(model, visible=[0], audible=[0, 3, 4])
    counts = model.confusion(PARTLY)  # 0 and 3, 2 and 1 are mixed; 0 and 1 are seen
    assert {name: value.sum(dim=0).tolist() for name, value in counts.items()} == {
        "presence": [2, 4, 2],
        "visual_presence": [1, 1, 1],
        "invisible": [1, 3, 1],
    }
    assert model.confusion(None) == {} and changed(model, parser=False).confusion(PARTLY) == {}


def test_how_many_are_shown_to_the_parser_is_drawn_evenly():
    torch.manual_seed(0)
    shown = torch.tensor([True, True, False, True]).expand(4000, 4)
    drawn = drawn_among(shown)
    assert not drawn[:, 2].any()
    counts = torch.bincount(drawn.sum(dim=1)) / 4000
    assert counts.tolist() == pytest.approx([0.25] * 4, abs=0.03)
    assert drawn[:, [0, 1, 3]].float().mean(dim=0).tolist() == pytest.approx([0.5] * 3, abs=0.03)
