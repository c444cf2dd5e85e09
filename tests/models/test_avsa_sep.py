"""AVSA-Sep: masks by pictures and by labels out of one network, and a parser of what is heard and not seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torchvision
from torch import Tensor

from cocktail.audio.masks import ideal_binary_mask
from cocktail.audio.mixing import mix
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.config.settings import require_kept
from cocktail.config.training import Training
from cocktail.layers.classes import PREDICTED_CLASSES, PREDICTED_NUMBER
from cocktail.layers.masking import BY_SUBTRACTED_MAGNITUDES, BY_SUBTRACTION, SOFT_MASKS
from cocktail.layers.scene_parser import stand_in_pictures
from cocktail.losses.mask_loss import mask_loss
from cocktail.models.avsa_sep import BY_LABELS, SMALL_AVSA_SEP, AVSASep, AVSASepConfig
from cocktail.train.update import make_optimizers
from cocktail.types import NO_CLASS, Classifier, Localizer, Query, Separator, UsageError
from tests.made.models.finite_differences import assert_gradients_are_differences, away_from_kinks
from tests.made.models.plain_head import PlainMaskHead
from tests.made.models.small_avsa_sep import BATCH, PARTLY, SMALL, TRIO, changed, masks_of, showing, telling_apart, told
from tests.made.models.small_sound_of_pixels import MIXING, seen_and_heard
from tests.made.models.subtracted import assert_what_is_not_seen_is_what_is_left


@pytest.fixture
def model() -> AVSASep:
    return telling_apart()


def test_it_separates_and_classifies(model):
    assert isinstance(model, Separator) and isinstance(model, Classifier) and not isinstance(model, Localizer)


def test_the_vector_of_a_label_is_a_row_of_a_table(model):
    linear = model.label_alignment
    for label in range(5):
        expected = (linear.weight[:, label] + linear.bias).sigmoid()
        torch.testing.assert_close(model.label_vectors(torch.tensor([[label]]))[0, 0], expected)


def test_both_branches_give_the_same_masks_for_the_same_vector(model):
    vector = torch.linspace(-2, 2, 8)
    with torch.no_grad():
        for layer in (model.visual_encoder.project, model.label_alignment):
            layer.weight.zero_()
            layer.bias.copy_(vector)
    model.eval()
    seen = model.separate(mix(BATCH)[0], Query.of(BATCH))
    torch.testing.assert_close(masks_of(seen.alternatives[BY_LABELS]), masks_of(seen))
    losses = model(BATCH)
    torch.testing.assert_close(losses["by_pictures"], losses["by_labels"])


def test_by_lambda_the_synthesizer_learns_three_times_as_much_of_pictures_as_of_labels(model):
    with torch.no_grad():
        for layer in (model.visual_encoder.project, model.label_alignment):
            layer.weight.zero_()
            layer.bias.zero_()
    losses = changed(model, triplet_weight=0.0, parser=False).eval()
    of_both = losses(BATCH)
    weights = {"by_pictures": SMALL.picture_weight, "by_labels": 2 - SMALL.picture_weight}
    torch.testing.assert_close(of_both["total"], sum(weights[name] * of_both[name] for name in weights))
    head = losses.mask_head.weight
    seen, named = (torch.autograd.grad(weights[name] * of_both[name], head, retain_graph=True)[0] for name in weights)
    assert seen.abs().max() > 0
    torch.testing.assert_close(seen, 3 * named)


def test_the_losses_are_written_out_source_by_source_with_all_maps(model):
    model.eval()
    mixture, references = mix(BATCH)
    front_end, config = model.front_end, model.config
    magnitude = front_end.warp(front_end.stft(mixture).abs())[:, None]
    sources = front_end.warp(front_end.stft(references).abs())
    targets = ideal_binary_mask(sources, magnitude)
    weight = torch.log(1 + magnitude).clamp(1e-3, 10)
    features, head = model.unet(model.spectrogram(magnitude)), PlainMaskHead.of(model.mask_head)
    assert BATCH.pictures is not None
    cells = torch.stack([model.visual_encoder(BATCH.pictures[:, n, 0]) for n in range(2)], dim=1)
    vectors = {
        "by_pictures": cells.sigmoid().flatten(3).amax(dim=3),
        "by_labels": (model.label_alignment.weight.T[BATCH.class_ids] + model.label_alignment.bias).sigmoid(),
    }
    logits = {name: head(features, vector) for name, vector in vectors.items()}
    expected = {name: mask_loss(each, targets, weight).mean() for name, each in logits.items()}

    def apart(a, b):
        return (a - b).square().mean(dim=(-2, -1)).sqrt()

    masks = {name: each.sigmoid() for name, each in logits.items()}
    triplets = [
        (apart(targets[:, i], masks[own][:, i]) - apart(targets[:, i], masks[other][:, 1 - i]) + 0.1).clamp(min=0)
        for own, other in (("by_pictures", "by_labels"), ("by_labels", "by_pictures"))
        for i in range(2)
    ]
    expected["triplet"] = torch.stack(triplets).sum(dim=0).mean() / 2
    losses = model(BATCH)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)
    total = 1.5 * losses["by_pictures"] + 0.5 * losses["by_labels"] + config.triplet_weight * losses["triplet"]
    torch.testing.assert_close(losses["total"], total + losses["parser_visible"] + losses["parser_audible"])


def test_who_is_seen_is_separated_by_pictures_and_who_is_not_by_its_label(model):
    model.eval()
    mixture = mix(BATCH)[0]
    whole = model.separate(mixture, Query.of(BATCH))
    partly = model.separate(mixture, Query.of(PARTLY))
    by_labels = whole.alternatives[BY_LABELS]
    for b, n in ((0, 0), (1, 1)):
        torch.testing.assert_close(masks_of(partly)[b, n], masks_of(whole)[b, n])
    for b, n in ((0, 1), (1, 0)):
        torch.testing.assert_close(masks_of(partly)[b, n], masks_of(by_labels)[b, n])
    assert partly.class_ids.equal(BATCH.class_ids)
    assert not torch.allclose(masks_of(whole), masks_of(by_labels), atol=1e-3)
    # Pictures that are withheld are not looked at, whatever they hold.
    assert PARTLY.pictures is not None and PARTLY.seen is not None
    noise = torch.randint(0, 256, PARTLY.pictures.shape, dtype=torch.uint8)
    shown = PARTLY.seen[..., None, None, None, None]
    other = replace(Query.of(PARTLY), pictures=torch.where(shown, PARTLY.pictures, noise))
    again = model.separate(mixture, other)
    assert masks_of(again).equal(masks_of(partly)) and again.estimates.equal(partly.estimates)
    assert again.intermediates["visual_presence"].equal(partly.intermediates["visual_presence"])
    torch.testing.assert_close(model.presence(mixture), partly.intermediates["presence"])
    nothing = model.separate(mixture, replace(Query.of(BATCH), pictures=None, seen=None))
    torch.testing.assert_close(masks_of(nothing), masks_of(by_labels))


def test_readings_are_there_where_they_say_something_of_their_own(model):
    model.eval()
    mixture = mix(BATCH)[0]
    parsed = [PREDICTED_CLASSES, PREDICTED_NUMBER]
    subtracted = [BY_SUBTRACTION, BY_SUBTRACTED_MAGNITUDES]
    assert list(model.separate(mixture, Query.of(BATCH)).alternatives) == [SOFT_MASKS, BY_LABELS]
    some = model.separate(mixture, Query.of(PARTLY))
    assert list(some.alternatives) == [SOFT_MASKS, *subtracted, BY_LABELS, *parsed]
    none = model.separate(mixture, replace(Query.of(BATCH), pictures=None, seen=None))
    assert list(none.alternatives) == [SOFT_MASKS, *parsed]
    alone = changed(model, parser=False).separate(mixture, Query.of(PARTLY))
    assert list(alone.alternatives) == [SOFT_MASKS, *subtracted, BY_LABELS]
    assert alone.estimates.equal(some.estimates) and "presence" not in alone.intermediates


def test_a_source_that_is_neither_seen_nor_named_has_no_estimate(model):
    model.eval()
    batch = showing(seen_and_heard([[0, 3], [2, NO_CLASS]]), [[True, True], [True, False]])
    query = Query.of(batch)
    separation = model.separate(mix(batch)[0], query)
    assert separation.estimates[1, 1].eq(0).all() and separation.estimates[1, 0].ne(0).any()
    unknown = model.separate(mix(batch)[0], replace(query, class_ids=torch.full((2, 2), NO_CLASS)))
    assert masks_of(unknown).equal(masks_of(separation))


def test_what_is_subtracted_is_what_is_seen(model):
    own = assert_what_is_not_seen_is_what_is_left(model.eval(), TRIO)
    left, floored = (own.alternatives[name].estimates for name in (BY_SUBTRACTION, BY_SUBTRACTED_MAGNITUDES))
    assert floored[0, 0].equal(own.estimates[0, 0]) and floored[0, 1].equal(floored[0, 2])
    # What two masks both let through is taken twice, and less than nothing is left.
    assert not torch.allclose(floored[1, 0], left[1, 0], atol=1e-4)


def test_labels_alone_see_nothing_and_learn_the_same_masks(model):
    labels = changed(model, branches="labels").eval()
    model.eval()
    assert not [name for name in labels.state_dict() if name.startswith("visual_encoder")]
    torch.testing.assert_close(labels(BATCH)["by_labels"], model(BATCH)["by_labels"])
    total = labels(BATCH)
    expected = total["by_labels"] + total["parser_visible"] + total["parser_audible"]
    torch.testing.assert_close(total["total"], expected)
    mixture, query = mix(BATCH)[0], Query.of(BATCH)
    own = labels.separate(mixture, query)
    torch.testing.assert_close(masks_of(own), masks_of(model.separate(mixture, query).alternatives[BY_LABELS]))
    assert list(own.alternatives) == [SOFT_MASKS, PREDICTED_CLASSES, PREDICTED_NUMBER]
    told(labels, visible=[0, 3], audible=[1, 0, 3])
    assert labels.separate(mixture, query).alternatives[PREDICTED_CLASSES].class_ids.tolist() == [[1, 0], [1, 0]]
    # Without the parser, too, there is nothing to look at.
    blind = replace(SMALL, branches="labels", parser=False)
    blind.require_mixing(replace(MIXING, pictures_per_source=0))
    assert blind.start() is None and blind.build(5)(replace(BATCH, pictures=None))["total"].isfinite()
    for needed in (SMALL, replace(SMALL, branches="labels")):
        with pytest.raises(UsageError, match=r"there are none: set --mixing\.pictures-per-source"):
            needed.require_mixing(replace(MIXING, pictures_per_source=0))


def stepped(model: AVSASep, part: str, name: str = "total") -> dict[str, Tensor]:
    """A part's weights after some steps with what a model gives for a loss by name."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(3):
        torch.manual_seed(step)  # as the training loop does in each step
        losses = model(BATCH)
        loss = losses["parser_visible"] + losses["parser_audible"] if name == "parser" else losses[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {key: value for key, value in model.state_dict().items() if key.startswith("parser.") == (part == "parser")}


def test_parser_and_separator_learn_beside_each_other_what_each_learns_alone():
    def built(**settings) -> AVSASep:
        torch.manual_seed(0)
        return replace(SMALL, **settings).build(5)

    start = built().state_dict()
    for part, alone in (("parser", stepped(built(), "parser", "parser")), ("separator", None)):
        together = stepped(built(), part)
        alone = stepped(built(parser=False), part) if alone is None else alone
        assert together.keys() == alone.keys() and len(together) > 20
        for key, value in together.items():
            assert value.equal(alone[key]), key
        assert sum(not value.equal(start[key]) for key, value in together.items()) > 20


def test_what_is_withheld_in_training_has_no_part_in_what_is_learned(model):
    losses = model.eval()(BATCH)
    torch.manual_seed(0)
    partly = model(PARTLY)
    torch.testing.assert_close(partly["by_labels"], losses["by_labels"])
    # Masks by pictures are those of the two that are seen, one a mixture.
    magnitude = model.front_end.warp(model.front_end.stft(mix(BATCH)[0]).abs())[:, None]
    separation = model.separate(mix(BATCH)[0], Query.of(BATCH))
    references = model.front_end.warp(model.front_end.stft(mix(BATCH)[1]).abs())
    targets = ideal_binary_mask(references, magnitude)
    each = mask_loss(masks_of(separation).logit(), targets, torch.log1p(magnitude).clamp(1e-3, 10))
    torch.testing.assert_close(partly["by_pictures"], (each[0, 0] + each[1, 1]) / 2, rtol=1e-3, atol=1e-5)
    assert PARTLY.pictures is not None and PARTLY.seen is not None
    noise = torch.randint(0, 256, PARTLY.pictures.shape, dtype=torch.uint8)
    shown = PARTLY.seen[..., None, None, None, None]
    torch.manual_seed(0)
    other = model.train()(replace(PARTLY, pictures=torch.where(shown, PARTLY.pictures, noise)))["total"]
    torch.manual_seed(0)
    torch.testing.assert_close(model(PARTLY)["total"], other)
    nothing = showing(BATCH, [[False, False], [True, True]])
    assert model(nothing)["total"].isfinite()


def test_a_mixture_that_shows_nobody_borrows_a_picture_that_is_shown():
    batch = showing(BATCH, [[True, False], [False, False]])
    pictures = stand_in_pictures(batch)
    assert pictures is not None and BATCH.pictures is not None
    for b, n in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert pictures[b, n].equal(BATCH.pictures[0, 0])


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    model = SMALL.build(5)
    batch = seen_and_heard([[0, 3], [2, 1], [4, 0], [1, 3]])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first = model(batch)
    losses = first
    for _ in range(80):
        losses = model(batch)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    assert first["by_pictures"] > 0.05 and losses["by_pictures"] < 0.005 and losses["by_labels"] < 0.03
    assert first["parser_audible"] > 0.6 and losses["parser_audible"] < 0.05
    query = Query.of(showing(batch, [[True, False]] * 4))
    scene = model.eval().parse(mix(batch)[0], query)
    assert (scene.audible > 0).equal(torch.zeros(4, 5, dtype=torch.bool).scatter(1, batch.class_ids, True))


def test_gradients_are_differences(model):
    away_from_kinks(model.double().eval())
    magnitude = torch.rand(2, 1, 64, 64, dtype=torch.float64) + 0.1
    sources = torch.rand(2, 2, 64, 64, dtype=torch.float64) * magnitude
    # The parser, which has no part in it, has a test of its own.
    names = [(name, p) for name, p in model.named_parameters() if not name.startswith("parser.")]

    def loss():
        spectrogram = model.spectrogram(magnitude)
        return model._separation_losses(PARTLY, magnitude, sources, model.unet(spectrogram))[1]

    assert_gradients_are_differences(loss, names)


@pytest.mark.parametrize(("weights", "rate"), [("auto", 1e-4), ("resnet18.pth", 1e-4), ("none", 1e-3)])
def test_every_parameter_learns_and_resnets_that_have_learned_a_tenth_as_fast(model, weights, rate):
    torch.manual_seed(1)
    model(BATCH)["total"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    groups = replace(SMALL, initial_weights=weights).parameter_groups(model)
    (optimizer,) = make_optimizers(model, groups, Training())
    of_resnets, others = optimizer.param_groups
    assert (of_resnets["lr"], others["lr"]) == (pytest.approx(rate), pytest.approx(1e-3))
    slow = [p for name, p in model.named_parameters() if "resnet." in name]
    assert {id(p) for p in of_resnets["params"]} == {id(p) for p in slow}


def test_bfloat16_autocast_gives_the_loss_of_float32_to_its_precision(model):
    def loss():
        torch.manual_seed(0)
        return model(BATCH)["total"]

    exact = loss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = loss()
    rounded.backward()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.03, atol=0.0)


@pytest.mark.parametrize(
    ("settings", "differs"),
    [
        ({"picture_weight": 1.0}, {"total"}),
        ({"triplet_weight": 1.0}, {"total"}),
        ({"triplet_weight": 0.0}, {"total", "triplet"}),
        ({"triplet_margin": 0.3}, {"total", "triplet"}),
        ({"triplet_distance": "l2"}, {"total", "triplet"}),
        ({"weighted_loss": False}, {"total", "by_pictures", "by_labels"}),
        ({"masks": "ratio"}, {"total", "by_pictures", "by_labels", "triplet"}),
        ({"parser": False}, {"total", "parser_visible", "parser_audible"}),
        ({"parser_threshold": 0.3}, set()),
    ],
)
def test_switches_change_the_losses_that_they_are_of(model, settings, differs):
    def losses(of):
        torch.manual_seed(0)
        return of.eval()(BATCH)

    own, other = losses(model), losses(changed(model, **settings))
    assert {name for name in own if name not in other or not own[name].equal(other[name])} == differs


def test_of_three_sources_reductions_differ(model):
    batch = seen_and_heard([[0, 3, 4], [2, 1, 0]])
    of = {
        reduction: changed(model, triplet_reduction=reduction, triplet_margin=1.0).eval()(batch)["triplet"]
        for reduction in ("mean", "sum", "nearest")
    }
    torch.testing.assert_close(of["sum"], 2 * of["mean"])
    assert of["mean"] < of["nearest"] < of["sum"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"picture_weight": 2.5}, "from 0 to 2, not 2.5"),
        ({"triplet_margin": -1.0}, "triplet_margin must not be negative"),
        ({"parser_threshold": 1.0}, "between 0 and 1"),
        ({"resnet_width": 3}, "eighths of the ResNet's 6 channels"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        replace(SMALL, **settings)


@pytest.mark.parametrize("config", [AVSASepConfig(), SMALL_AVSA_SEP, SMALL, replace(SMALL, branches="labels")])
def test_a_checkpoint_can_hold_it(config):
    require_kept(config, "model.")
    require_built_without_values(config, 5)


def test_it_starts_from_torchvisions_weights():
    config = AVSASepConfig()
    start = config.start()
    assert start is not None and start.modules == ("visual_encoder.resnet", "parser.resnet")
    labels = replace(config, branches="labels").start()
    assert labels is not None and labels.modules == ("parser.resnet",)


def test_the_papers_network_has_the_size_of_its_parts():
    """The paper states no size: Sound of Pixels' network, a linear layer, and a parser of a ResNet-18, two VGGish of
    six convolutions, and two linear layers."""
    C = 11
    with torch.device("meta"):
        model = AVSASepConfig().build(C)
    resnet = sum(p.numel() for name, p in torchvision.models.resnet18().named_parameters() if "fc" not in name)
    widths = [1, 64, 128, 256, 256, 512, 512]
    vggish = 2 + sum(9 * before * after + after for before, after in pairwise(widths))
    parser = resnet + 2 * vggish + 2 * (512 * C + C)
    sizes = {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()}
    assert sizes["parser"] == parser == 20_187_226
    assert sizes["label_alignment"] == C * 32 + 32
    assert sizes["visual_encoder"] == resnet + 9 * 512 * 32 + 32
    assert sum(sizes.values()) == sum(p.numel() for p in model.parameters())
