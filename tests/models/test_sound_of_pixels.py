"""Sound of Pixels: masks that pictures pick, estimates in their order, and maps of where sounds come from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from cocktail.audio.mixing import mix, superpose
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.config.evaluation import Evaluation
from cocktail.config.settings import require_kept
from cocktail.config.training import Training
from cocktail.layers.masking import SOFT_MASKS
from cocktail.layers.pixel_vectors import PixelEncoder
from cocktail.models.sound_of_pixels import SMALL_SOUND_OF_PIXELS, SoundOfPixels, SoundOfPixelsConfig
from cocktail.tasks.choice import tasks_of
from cocktail.train.update import make_optimizers
from cocktail.types import NO_CLASS, Classifier, Localizer, Query, Separator, UsageError
from tests.made.models.finite_differences import assert_gradients_are_differences, away_from_kinks
from tests.made.models.plain_head import PlainMaskHead
from tests.made.models.small_sound_of_pixels import MIXING, SMALL, seen_and_heard

BATCH = seen_and_heard([[0, 3], [2, 1]])
assert BATCH.pictures is not None
PICTURES = BATCH.pictures


@pytest.fixture
def model() -> SoundOfPixels:
    torch.manual_seed(0)
    model = SMALL.build(5)
    with torch.no_grad():  # so that sounds and pictures are told apart before anything is learned
        model.visual_encoder.project.weight.mul_(3)
        model.mask_head.weight.mul_(30)
    return model


def test_it_separates_and_localizes_where_there_is_one_picture_a_source_and_knows_no_classes(model):
    assert isinstance(model, Separator) and isinstance(model, Localizer) and not isinstance(model, Classifier)

    def names(mixing):
        return [task.name for task in tasks_of(model, Evaluation(), mixing)]

    assert names(MIXING) == ["separation", "localization"]
    assert names(replace(MIXING, pictures_per_source=3)) == ["separation"]
    assert names(replace(MIXING, arrangement="whole")) == ["localization"]


@pytest.mark.parametrize("masks", ["binary", "ratio"])
def test_the_loss_is_written_out_source_by_source_with_all_maps(model, masks):
    model.config = replace(SMALL, masks=masks)
    model.eval()
    mixture, references = mix(BATCH)
    magnitude = model.front_end.warp(model.front_end.stft(mixture).abs())[:, None]
    weight = torch.log(1 + magnitude[:, 0]).clamp(1e-3, 10)
    head = PlainMaskHead.of(model.mask_head)
    losses = []
    for n in range(2):
        source = model.front_end.warp(model.front_end.stft(references[:, n]).abs())
        cells = model.visual_encoder(PICTURES[:, n, 0])
        vector = cells.sigmoid().flatten(2).max(dim=2).values
        p = head(model.features(magnitude), vector[:, None]).sigmoid()[:, 0]
        if masks == "binary":
            target = (source > 0.5 * magnitude[:, 0]).float()
            bins = -(target * p.log() + (1 - target) * (1 - p).log())
        else:
            bins = ((source / magnitude[:, 0]).clamp(max=1) - p).abs()
        losses.append((weight * bins).mean())
    torch.testing.assert_close(model(BATCH)["total"], (losses[0] + losses[1]) / 2, rtol=1e-4, atol=1e-6)


def test_estimates_are_in_the_order_of_the_pictures(model):
    model.eval()
    mixture, query = mix(BATCH)[0], Query.of(BATCH)
    assert query.pictures is not None and query.class_ids is not None
    own = model.separate(mixture, query)
    assert own.class_ids.equal(query.class_ids) and own.estimates.shape == (2, 2, 63 * 64)
    turned = replace(query, pictures=query.pictures.flip(1), class_ids=query.class_ids.flip(1))
    other = model.separate(mixture, turned)
    torch.testing.assert_close(other.masks.flip(1), own.masks)
    torch.testing.assert_close(other.estimates.flip(1), own.estimates)
    assert not torch.allclose(own.masks[:, 0], own.masks[:, 1], atol=1e-4)
    # The classes do no more than name the pictures.
    blind = model.separate(mixture, replace(query, class_ids=None))
    assert blind.masks.equal(own.masks) and blind.class_ids.eq(NO_CLASS).all()


def test_of_several_pictures_of_a_source_each_place_counts_whatever_their_order(model):
    model.eval()
    batch = seen_and_heard([[0, 3, 1], [2, 1, 4]])
    assert batch.pictures is not None
    pictures = batch.pictures.transpose(1, 2)  # three pictures of one source
    present = batch.present[:, :1]
    together = model.visual_encoder.of_sources(pictures, present)
    torch.testing.assert_close(together, model.visual_encoder.of_sources(pictures.flip(2), present))
    each = [model.visual_encoder.of_sources(pictures[:, :, [k]], present) for k in range(3)]
    torch.testing.assert_close(together, torch.stack(each).amax(dim=0))


def test_a_mixture_of_three_is_separated_by_what_learned_from_two(model):
    model(BATCH)["total"].backward()
    batch = seen_and_heard([[0, 3, 4]])
    separation = model.eval().separate(mix(batch)[0], Query.of(batch))
    assert separation.masks.shape == (1, 3, 64, 64) and separation.class_ids.tolist() == [[0, 3, 4]]
    assert separation.intermediates["source_vectors"].shape == (1, 3, 8)


def test_a_source_that_is_not_there_has_no_part_in_anything(model):
    batch = seen_and_heard([[0, 3], [2, NO_CLASS]])
    assert batch.pictures is not None
    noise = batch.pictures.clone()
    noise[1, 1] = torch.randint(0, 256, noise.shape[2:])
    loss = model(batch)["total"]
    torch.testing.assert_close(model(replace(batch, pictures=noise))["total"], loss)
    separation = model.eval().separate(mix(batch)[0], Query.of(batch))
    assert separation.masks[1, 1].eq(0).all() and separation.estimates[1, 1].eq(0).all()
    # Means over each mixture's own sources, whatever the others'.
    first, second = (model(batch.rows(row, row + 1))["total"] for row in (0, 1))
    torch.testing.assert_close(model(batch)["total"], (first + second) / 2)
    alone = replace(seen_and_heard([[2]]), mixture_ids=("1",))
    assert batch.sources[1, 0].ne(0).any() and model(alone)["total"].isfinite()


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    model = SMALL.build(5)
    batch = seen_and_heard([[0, 3], [2, 1], [4, 0], [1, 3]])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first = model(batch)["total"].item()
    loss = torch.tensor(first)
    for _ in range(60):
        loss = model(batch)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first > 0.05 and loss.item() < 0.005


def test_gradients_are_differences(model):
    away_from_kinks(model.double().eval())
    magnitude, targets = torch.rand(2, 1, 64, 64, dtype=torch.float64), torch.rand(2, 2, 64, 64).double()

    def loss():
        vectors = model.visual_encoder.of_sources(PICTURES, BATCH.present)
        return (model.mask_logits(model.features(magnitude), vectors).sigmoid() - targets).square().sum()

    assert_gradients_are_differences(loss, model.named_parameters())


@pytest.mark.parametrize(("weights", "rate"), [("auto", 1e-4), ("none", 1e-3)])
def test_every_parameter_learns_and_a_resnet_that_has_learned_a_tenth_as_fast(model, weights, rate):
    model(BATCH)["total"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    (optimizer,) = make_optimizers(model, replace(SMALL, initial_weights=weights).parameter_groups(model), Training())
    of_resnet, others = optimizer.param_groups
    assert (of_resnet["lr"], others["lr"]) == (pytest.approx(rate), pytest.approx(1e-3))
    assert {id(p) for p in of_resnet["params"]} == {id(p) for p in model.visual_encoder.resnet.parameters()}


def test_bfloat16_autocast_gives_the_loss_of_float32_to_its_precision(model):
    exact = model(BATCH)["total"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(BATCH)["total"]
    rounded.backward()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.0)


def test_switches_change_what_they_say_and_nothing_else(model):
    model.eval()
    mixture, query = mix(BATCH)[0], Query.of(BATCH)
    own, loss = model.separate(mixture, query), model(BATCH)["total"]
    assert list(own.alternatives) == [SOFT_MASKS]

    def changed(**settings):
        other = replace(SMALL, **settings).build(5).eval()
        other.load_state_dict(model.state_dict())
        return other.separate(mixture, query), other(BATCH)["total"]

    assert own.masks is not None
    ratio, ratio_loss = changed(masks="ratio")
    assert (
        ratio.masks is not None
        and ratio.masks.equal(own.masks)
        and not ratio.alternatives
        and not torch.equal(ratio_loss, loss)
    )
    assert ratio.estimates.equal(own.alternatives[SOFT_MASKS].estimates) and not ratio.estimates.equal(own.estimates)
    unweighted, unweighted_loss = changed(weighted_loss=False)
    assert unweighted.estimates.equal(own.estimates) and not torch.equal(unweighted_loss, loss)
    louder, _ = changed(input_norm="none")
    assert louder.masks is not None and not louder.masks.equal(own.masks)
    assert louder.intermediates["source_vectors"].equal(own.intermediates["source_vectors"])


@pytest.mark.parametrize("masks", ["binary", "ratio"])
def test_maps_are_the_energies_of_each_places_sound(model, masks):
    """Against the plain form, all masks and sounds at once; at the corners, where nothing is interpolated."""
    model.config = replace(SMALL, masks=masks)
    model.eval()
    localization = model.localize(superpose(BATCH), Query.of(BATCH))
    split = localization.alternatives["split"]
    assert localization.maps.shape == (2, 1, 64, 128) and split.maps.shape == (2, 2, 64, 64)
    assert localization.class_ids.eq(NO_CLASS).all()
    transform = model.front_end.stft(mix(BATCH)[0])
    features = model.features(model.front_end.warp(transform.abs())[:, None])
    for n in range(2):
        cells = model.visual_encoder(PICTURES[:, n, 0]).sigmoid()
        masks_of_all = PlainMaskHead.of(model.mask_head)(features, cells.flatten(2).transpose(1, 2)).sigmoid()
        kept = model.front_end.unwarp(masks_of_all)
        kept = (kept > 0.5).float() if masks == "binary" else kept
        expected = (transform[:, None] * kept).abs().square().mean(dim=(2, 3)).unflatten(1, (16, 16))
        for row in (0, -1):
            for column in (0, -1):
                torch.testing.assert_close(split.maps[:, n, row, column], expected[:, row, column])
    assert len(split.maps[0, 0].unique()) > 16


@pytest.mark.parametrize("masks", ["binary", "ratio"])
def test_each_place_of_a_picture_has_a_sound(model, masks):
    model.config = replace(SMALL, masks=masks)
    model.eval()
    mixture, picture = mix(BATCH)[0], PICTURES[:, 0, 0]
    sounds = model.sounds_of_places(mixture, picture)
    assert sounds.shape == (2, 16, 16, 63 * 64)
    features = model.features(model.front_end.warp(model.front_end.stft(mixture).abs())[:, None])
    cells = model.visual_encoder(picture).sigmoid()
    for row, column in ((0, 3), (9, 15)):
        mask = PlainMaskHead.of(model.mask_head)(features, cells[:, None, :, row, column]).sigmoid()
        apply = model.front_end.apply_binary_mask if masks == "binary" else model.front_end.apply_soft_mask
        expected = apply(model.front_end.stft(mixture), mask)[:, 0]
        torch.testing.assert_close(sounds[:, row, column], expected, rtol=1e-4, atol=1e-5)
    assert not sounds[0, 0, 0].equal(sounds[0, 8, 8])


def test_maps_of_one_picture_of_all_sources_are_the_wide_ones_alone(model):
    query = Query.of(BATCH)
    together = replace(query, pictures=PICTURES[:, :1])
    localization = model.eval().localize(superpose(BATCH), together)
    assert localization.maps.shape == (2, 1, 64, 64) and not localization.alternatives
    with pytest.raises(UsageError, match="there are 1 of 2 sources"):
        model.separate(mix(BATCH)[0], together)


@pytest.mark.parametrize("config", [SoundOfPixelsConfig(), SMALL_SOUND_OF_PIXELS, SMALL])
def test_a_checkpoint_can_hold_it(config):
    require_kept(config, "model.")
    require_built_without_values(config, 5)


def test_it_starts_from_torchvisions_weights():
    config = SoundOfPixelsConfig()
    start, model = config.start(), config.build(5)
    theirs: Any = torchvision.models.resnet18(weights=None)
    for name in start.modules:
        module: Any = model.get_submodule(name)
        module.load_torchvision(theirs.state_dict())
        assert module.layer4[1].conv2.weight.equal(theirs.layer4[1].conv2.weight)
    assert start.chosen == "auto"


def test_the_papers_network_has_the_size_of_its_parts():
    """The paper states no size. ResNet-18 without its classifier, and the convolutions of section 3.1 written down."""
    with torch.device("meta"):
        model = SoundOfPixelsConfig().build(5)
    resnet = sum(p.numel() for name, p in torchvision.models.resnet18().named_parameters() if "fc" not in name)
    widths = [64, 128, 256, 512, 512, 512, 512]
    down = [16 * before * after for before, after in zip([1, *widths], widths, strict=False)]
    inner = [512, 1024, 1024, 1024, 512, 256]
    up = [9 * before * after for before, after in zip(inner, [512, 512, 512, 256, 128, 64], strict=True)]
    norms = 2 * (1 + sum(widths[1:-1]) + 512 + 512 + 512 + 256 + 128 + 64)
    maps, pictures = 9 * 128 * 32 + 32, 9 * 512 * 32 + 32
    expected = resnet + sum(down) + sum(up) + norms + maps + pictures + 32 + 1
    assert sum(p.numel() for p in model.parameters()) == expected == 41_598_243
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model.unet(torch.empty(1, 1, 256, 256))
        places = model.visual_encoder(torch.empty(1, 224, 224, 3, dtype=torch.uint8))
    assert places.shape == (1, 32, 14, 14)
    area = [(128 >> level) ** 2 for level in range(7)]
    products = sum(size * cells for size, cells in zip(down, area, strict=True))
    products += sum(size * cells for size, cells in zip(up, area[-2::-1], strict=True))
    assert sum(counter.get_flop_counts()["UNet"].values()) == 2 * products


def test_what_it_cannot_learn_from_or_be_tested_on_is_refused():
    SMALL.require_mixing(MIXING)
    SMALL.require_test_mixing(replace(MIXING, num_sources=3, min_sources=1))
    SMALL.require_test_mixing(replace(MIXING, arrangement="whole"))
    for change, message in (
        ({"pictures_per_source": 0}, "finds a source by its pictures"),
        ({"picture_side": 50}, "multiple of 4"),
        ({"segment_samples": 5000}, r"4095 samples are the nearest"),
        ({"distinct_classes": False}, "one class a source"),
        ({"several_classes": True}, "one class a source"),
        ({"num_sources": 1}, "nothing to separate"),
        ({"arrangement": "whole"}, "no reference"),
    ):
        with pytest.raises(UsageError, match=message):
            SMALL.require_mixing(replace(MIXING, **change))
    for change, message in (({"unet_depth": 4}, "unet_depth"), ({"unet_depth": 7}, "halves 64 rows unevenly")):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)


def test_the_encoder_is_dilated(model):
    assert isinstance(model.visual_encoder, PixelEncoder)
    assert model.visual_encoder.resnet.stride == SMALL.stride == 4
    assert SoundOfPixelsConfig().stride == 16
