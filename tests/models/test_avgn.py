"""AVGN's shapes, losses and maps, on a small network."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from cocktail.audio.mixing import superpose
from cocktail.layers.classes import PREDICTED_CLASSES
from cocktail.models.avgn import AVGN, AVGNConfig, Vectors
from cocktail.types import Classifier, Localizer, Query, Separator, UsageError
from tests.made.corpora.shapes_and_tones import SIDE, scenes
from tests.made.models.learned_maps import assert_maps_learn_to_point, learned, with_locations_that_see_themselves_alone
from tests.made.models.small_avgn import MIXING, SMALL, C, pictures_of
from tests.made.models.small_class_maps import pair_scores_by_mixture

BATCH = scenes([[0, 3], [2, 1], [4, 0]])


@pytest.fixture
def model() -> AVGN:
    torch.manual_seed(0)
    return AVGN(SMALL, C)


def test_it_localizes_and_classifies_and_does_not_separate(model):
    assert isinstance(model, Localizer)
    assert isinstance(model, Classifier)
    assert not isinstance(model, Separator)


@pytest.mark.parametrize("negative_gate", ["asked", "own"])
def test_losses_are_the_papers_written_out_source_by_source(negative_gate):
    torch.manual_seed(0)
    model = AVGN(replace(SMALL, negative_gate=negative_gate), C).eval()  # BatchNorm and all else give the same twice
    losses = model(BATCH)
    heard, seen = model.hear(superpose(BATCH)), model.see(pictures_of(BATCH), "wide")
    f, gv, ga = seen.features[:, 0], seen.classes[:, 0], heard.classes
    total = torch.zeros(())
    for n in range(2):
        similarity = torch.zeros(3, 3)
        for b in range(3):
            sound = F.normalize(ga[b, BATCH.class_ids[b, n]], dim=0)
            for m in range(3):
                asking = b if negative_gate == "asked" else m
                gated = F.normalize(f[m] * gv[m, BATCH.class_ids[asking, n]], dim=1)
                similarity[b, m] = (gated @ sound).max() / 0.03
        for b in range(3):
            total = total - similarity[b].log_softmax(0)[b] - similarity[:, b].log_softmax(0)[b]
    torch.testing.assert_close(losses["localization"], total / 6)
    present = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1]])
    for name, logits in (("presence", heard.presence_logits), ("visual_presence", seen.presence_logits[:, 0])):
        torch.testing.assert_close(losses[name], F.binary_cross_entropy(logits.sigmoid(), present))
    assert model.token_classifier is not None
    classified = model.token_classifier(model.class_tokens).log_softmax(-1)
    torch.testing.assert_close(losses["token"], -classified.diagonal().mean())
    parts = [losses[name] for name in ("localization", "token", "presence", "visual_presence")]
    torch.testing.assert_close(losses["total"], sum(parts))


def test_each_picture_by_itself_shows_its_own_class_and_hears_the_mixture():
    torch.manual_seed(0)
    model = AVGN(replace(SMALL, view="split"), C).eval()
    seen = model.see(pictures_of(BATCH), "split")
    assert seen.features.shape == (3, 2, 4, 16)
    labels = F.one_hot(BATCH.class_ids, C).float()
    assert seen.presence_logits is not None
    expected = F.binary_cross_entropy_with_logits(seen.presence_logits, labels)
    torch.testing.assert_close(model(BATCH)["visual_presence"], expected)


def test_a_view_of_a_picture_by_itself_does_not_see_the_other(model):
    model.eval()
    alone = model.see(pictures_of(BATCH)[:, :1], "wide").features[:, 0]
    torch.testing.assert_close(model.see(pictures_of(BATCH), "split").features[:, 0], alone)
    beside = model.see(pictures_of(BATCH), "wide").features[:, 0].unflatten(1, (2, 4))[:, :, :2].flatten(1, 2)
    assert not torch.allclose(beside, alone)  # convolutions reach over the seam


def test_as_eps_goes_to_zero_every_class_gathers_the_same_from_one_sound():
    """Spec: in eq. 8 the assignment of a single vector cancels out."""
    gathered = {}
    for eps in (0.0, 1.0):
        torch.manual_seed(0)
        model = AVGN(replace(SMALL, audio_eps=eps), C).eval()
        torch.nn.init.trunc_normal_(model.class_tokens, std=1.0)
        features = model.audio_encoder(model.spectrum(superpose(BATCH)))
        branch = model.audio_branch
        features, tokens = branch.layers.with_tokens(features, model.class_tokens.expand(3, -1, -1))
        assert branch.grouping is not None
        vectors, _ = branch.grouping(features, tokens)
        gathered[eps] = vectors - tokens
    same = gathered[0.0]
    torch.testing.assert_close(same, same[:, :1].expand_as(same), rtol=1e-4, atol=1e-6)
    acts = gathered[1.0]
    assert (acts - acts[:, :1]).abs().max() > 1e-3 * acts.abs().max()


def test_maps_are_cosines_at_the_pictures_size_in_the_order_of_the_classes(model):
    model.eval()
    mixture, pictures = superpose(BATCH), pictures_of(BATCH)
    localization = model.localize(mixture, Query.naming(BATCH.class_ids, pictures[:, :, None]))
    assert localization.maps.shape == (3, 2, SIDE, 2 * SIDE)
    assert localization.maps.abs().max() <= 1 + 1e-6
    swapped = model.localize(mixture, Query.naming(BATCH.class_ids.flip(1), pictures[:, :, None]))
    torch.testing.assert_close(localization.maps, swapped.maps.flip(1))
    assert localization.alternatives["split"].maps.shape == (3, 2, SIDE, SIDE)
    predicted = localization.alternatives[PREDICTED_CLASSES]
    assert predicted.maps.shape == (3, 2, SIDE, 2 * SIDE)
    assert predicted.class_ids.tolist() == localization.intermediates["presence"].topk(2).indices.tolist()
    torch.testing.assert_close(model.presence(mixture), localization.intermediates["presence"])


def test_one_picture_of_all_sources_has_a_map_for_each(model):
    batch = scenes([[0, 3], [2, 1]], together=True)
    localization = model.eval().localize(superpose(batch), Query.of(batch))
    assert localization.maps.shape == (2, 2, SIDE, SIDE)
    assert "split" not in localization.alternatives
    assert model.train()(batch)["total"].isfinite()


@pytest.mark.parametrize("number", [1, 3])
def test_a_model_of_two_sources_localizes_any_number(model, number):
    batch = scenes([[0, 3, 4][:number], [2, 1, 0][:number]])
    localization = model.eval().localize(superpose(batch), Query.of(batch))
    assert localization.maps.shape == (2, number, SIDE, number * SIDE)
    assert localization.class_ids.equal(batch.class_ids)


def test_sounds_and_pictures_of_one_batch_find_each_other():
    """By what is heard and seen: every first source is of one class, whose name tells no mixture from another, and all
    pictures have one background, which tells none either."""
    torch.manual_seed(0)
    class_ids = [[0, 1], [0, 2], [0, 3], [0, 4]]
    losses = learned(AVGN(SMALL, C), class_ids, steps=100, lr=3e-3, fresh=False, one_background=True)
    assert losses["localization"] < 0.1  # by names alone, ln 4


def test_one_batch_is_learned_by_heart_with_each_map_on_its_own_source():
    """By the default gate, with what else the small recipe sets. Each class is in two of five pictures of one
    background, so what finds a source by its own square alone has a loss of 2 ln 2; one that says nothing has 2 ln 5.

    That maps can be learned is shown, not that they always are: the loss takes the best location of a gated picture,
    and a gate that has met the whole picture can make one of the background tell as much. Of twenty starts this is the
    one after which all ten maps point at their squares (AP above 0.5); after seven eight do, after one none.
    """
    torch.manual_seed(10)
    config = replace(SMALL, token_init_std=0.02, localization_loss_weight=0.1)
    assert (config.gate, config.negative_gate) == (AVGNConfig().gate, AVGNConfig().negative_gate)
    model = with_locations_that_see_themselves_alone(AVGN(config, C))
    class_ids = [[0, 3], [2, 1], [4, 0], [1, 4], [3, 2]]
    batch = scenes(class_ids, one_background=True)
    before = pair_scores_by_mixture(model, batch).diagonal(dim1=1, dim2=2)
    assert (before > 0.5).sum() <= 5
    model.train()
    losses = learned(model, class_ids, steps=80, lr=3e-3, fresh=False, one_background=True)
    assert losses["localization"] < math.log(5)
    scores = pair_scores_by_mixture(model, batch)
    own, other = (each.diagonal(dim1=1, dim2=2) for each in (scores, scores.flip(1)))
    assert batch.truth is not None
    chance = batch.truth.float().mean() / 2
    assert own.min() > 3 * chance and own.mean() > 10 * chance and own.mean() > 4 * other.mean()


def test_names_alone_do_not_solve_the_loss_by_the_default_gate():
    """Class vectors that say their name and nothing else, in pictures and sounds that are all the same."""
    batch = scenes([[0, 1], [2, 3], [4, 2], [1, 0]])
    names = torch.eye(C).expand(4, C, C)
    logits = torch.zeros(4, C)
    heard = Vectors(features=torch.ones(4, 1, C), classes=names, presence_logits=logits, assignment=None)
    seen = Vectors(
        features=torch.ones(4, 1, 9, C), classes=names[:, None], presence_logits=logits[:, None], assignment=None
    )
    asked, own = (
        AVGN(config, C)._localization_loss(batch, heard, seen).item()
        for config in (SMALL, replace(SMALL, negative_gate="own"))
    )
    assert SMALL.negative_gate == AVGNConfig().negative_gate
    assert asked == pytest.approx(2 * math.log(4))  # each way, all four are alike
    assert own < 1e-6


def test_maps_learn_to_point_at_what_sounds():
    torch.manual_seed(0)
    config = replace(SMALL, width=32, gate="residual", temperature=0.3)
    assert_maps_learn_to_point(with_locations_that_see_themselves_alone(AVGN(config, C)), C)


def test_gradients_of_all_losses_are_exact_in_double_precision():
    torch.manual_seed(0)
    model = replace(SMALL, width=4, resnet_width=1, num_heads=1).build(3).double().eval()
    with torch.no_grad():  # at the start much is zero, where a ReLU has no slope
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = scenes([[0, 2], [2, 1]])
    total = model(batch)["total"]
    total.backward()
    step = 1e-7
    directions = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    slope = sum((p.grad * directions[name]).sum() for name, p in model.named_parameters() if p.grad is not None)
    values = []
    with torch.no_grad():
        for steps in (1, -2):
            for name, p in model.named_parameters():
                p.add_(steps * step * directions[name])
            values.append(model(batch)["total"])
    torch.testing.assert_close(slope, (values[0] - values[1]) / (2 * step), rtol=1e-4, atol=1e-6)


def test_mixtures_that_it_cannot_learn_from_are_refused_with_the_option_to_change():
    SMALL.require_mixing(MIXING)
    for change, message in (
        ({"pictures_per_source": 0}, "--mixing.pictures-per-source 1"),
        ({"picture_side": 100}, "multiple of 32"),
        ({"sample_rate_hz": 8000, "segment_samples": 16000}, r"--mixing\.sample-rate-hz is 8000"),
        ({"min_sources": 1}, "one number of sources"),
        ({"distinct_classes": False}, "--mixing.no-distinct-classes"),
        ({"several_classes": True}, "--mixing.several-classes"),
    ):
        with pytest.raises(UsageError, match=message):
            SMALL.require_mixing(replace(MIXING, **change))
    SMALL.require_test_mixing(replace(MIXING, min_sources=1))
