"""Co-Separation: masks that add up to a video's share, separated sounds that are told by their classes, and
AV-Mix-and-Separate, which has neither."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cocktail.audio.mixing import mix
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.config.settings import require_kept
from cocktail.layers.spectrogram import log_spectrogram
from cocktail.models.co_separation import (
    AV_MIX_SEPARATE,
    SMALL_AV_MIX_SEPARATE,
    SMALL_CO_SEPARATION,
    CoSeparation,
    CoSeparationConfig,
    ObjectUNet,
)
from cocktail.train.update import make_optimizers
from cocktail.types import NO_CLASS, Classifier, Localizer, Query, Separator, UsageError
from pipelines.experiments.benchmarks import CO_SEPARATION
from tests.made.models.finite_differences import assert_gradients_are_differences, away_from_kinks
from tests.made.models.small_pixel_separators import CO_SEPARATION as SMALL
from tests.made.models.small_sound_of_pixels import MIXING, seen_and_heard

MIX_SEPARATE = replace(SMALL, scene=False, class_weight=0.0)
BATCH = seen_and_heard([[0, 3], [2, 1]])
assert BATCH.pictures is not None
PICTURES = BATCH.pictures


def built(config: CoSeparationConfig = SMALL) -> CoSeparation:
    torch.manual_seed(0)
    return config.build(5).eval()


def like(model: CoSeparation, **settings) -> CoSeparation:
    """The same weights, as far as there are such, with other settings."""
    other = replace(model.config, **settings).build(5).eval()
    other.load_state_dict(model.state_dict(), strict=False)
    return other


def plain_unet(unet: ObjectUNet, spectrogram: Tensor, vectors: Tensor) -> Tensor:
    """Logits [B, O, H, W], object by object: the vector in each place beside what is heard, through whole layers."""
    masks = []
    for n in range(vectors.shape[1]):
        levels = [spectrogram]
        for block in unet.down:
            levels.append(block(levels[-1]))
        x = vectors[:, n, :, None, None].repeat(1, 1, *levels[-1].shape[2:])
        for level, convolution in enumerate(unet.up):
            x = convolution(torch.cat([x, levels[-1 - level]], dim=1))
            x = unet.norms[level](x) if level < len(unet.norms) else x
        masks.append(x[:, 0])
    return torch.stack(masks, dim=1)


def test_it_separates_and_knows_no_classes_or_places():
    model = built()
    assert isinstance(model, Separator) and not isinstance(model, Localizer | Classifier)


def test_a_mixture_is_heard_once_for_all_its_objects_as_if_each_heard_it():
    unet = built().unet
    spectrogram, vectors = torch.randn(2, 1, 64, 96), torch.randn(2, 3, 24)
    torch.testing.assert_close(unet(spectrogram, vectors), plain_unet(unet, spectrogram, vectors))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_losses_are_written_out_video_by_video(scale):
    model = built(replace(SMALL, target_scale=scale))
    mixture, references = mix(BATCH)
    magnitude = model.front_end.warp(model.front_end.stft(mixture).abs())[:, None]
    weight = torch.log(1 + magnitude[:, 0]).clamp(1e-3, 10)
    spectrogram = log_spectrogram(magnitude, "mixture")

    def mask_of(vector: Tensor) -> Tensor:
        return plain_unet(model.unet, spectrogram, vector[:, None])[:, 0].sigmoid()

    def cross_entropy(mask: Tensor, class_ids: Tensor) -> Tensor:
        assert model.classifier is not None
        logits = model.classifier(log_spectrogram(mask[:, None] * magnitude, "mixture"))
        return -logits.log_softmax(dim=1)[torch.arange(2), class_ids]

    assert model.scene is not None
    scene = mask_of(model.scene.expand(2, -1))
    masks, classes = [], []
    for n in range(2):
        of_object = mask_of(model.visual_encoder(PICTURES[:, n, 0]))
        source = model.front_end.warp(model.front_end.stft(references[:, n]).abs())
        target = (scale * source / magnitude[:, 0]).clamp(0, 5)
        assert target.max() > 1
        masks.append((weight * (of_object + scene - target).abs()).mean())
        classes += [cross_entropy(of_object, BATCH.class_ids[:, n]), cross_entropy(scene, torch.tensor([5, 5]))]
    losses = model(BATCH)
    torch.testing.assert_close(losses["reconstruction"], (masks[0] + masks[1]) / 2, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses["classification"], torch.stack(classes).mean(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses["total"], losses["reconstruction"] + 0.05 * losses["classification"])


def test_the_classifier_hears_the_logarithm_of_what_is_separated():
    """As the paper has it, without the normalisation of the small configurations: silence is log 1e-10."""
    model = built(replace(SMALL, input_norm="none"))
    separated = torch.rand(1, 2, 64, 64)
    separated[0, 1] = 0
    assert model.classifier is not None
    heard = torch.stack([(separated[0, 0] + 1e-10).log(), torch.full((64, 64), -10 * math.log(10))])
    expected = F.cross_entropy(model.classifier(heard[:, None]), torch.tensor([3, 5]), reduction="none")
    torch.testing.assert_close(model.class_losses(separated, torch.tensor([[3]]))[0], expected, rtol=1e-4, atol=1e-5)


def test_estimates_are_in_the_order_of_the_pictures():
    model = built()
    mixture, query = mix(BATCH)[0], Query.of(BATCH)
    assert query.pictures is not None and query.class_ids is not None
    own = model.separate(mixture, query)
    assert own.class_ids.equal(query.class_ids) and own.estimates.shape == (2, 2, 63 * 64) and not own.alternatives
    turned = replace(query, pictures=query.pictures.flip(1), class_ids=query.class_ids.flip(1))
    other = model.separate(mixture, turned)
    assert own.masks is not None and other.masks is not None
    torch.testing.assert_close(other.masks.flip(1), own.masks)
    torch.testing.assert_close(other.estimates.flip(1), own.estimates)
    assert not torch.allclose(own.masks[:, 0], own.masks[:, 1], atol=1e-4)
    # The classes do no more than name the pictures.
    blind = model.separate(mixture, replace(query, class_ids=None))
    assert blind.masks is not None and blind.masks.equal(own.masks) and blind.class_ids.eq(NO_CLASS).all()
    with pytest.raises(UsageError, match="there are 1 of 2 sources"):
        model.separate(mixture, replace(query, pictures=query.pictures[:, :1]))


def test_of_several_pictures_of_a_source_the_estimate_is_the_mean():
    model = built()
    mixture, query = mix(BATCH)[0], Query.of(BATCH)
    one, two = PICTURES, PICTURES.flip(0)
    both = model.separate(mixture, replace(query, pictures=torch.cat([one, two], dim=2)))
    each = [model.separate(mixture, replace(query, pictures=pictures)) for pictures in (one, two)]
    assert not torch.allclose(each[0].estimates, each[1].estimates, atol=1e-4)
    torch.testing.assert_close(both.estimates, (each[0].estimates + each[1].estimates) / 2, rtol=1e-3, atol=1e-6)
    assert both.intermediates["source_vectors"].shape == (2, 2, 24)
    batch = replace(BATCH, pictures=torch.cat([one, one], dim=2))
    torch.testing.assert_close(model(batch)["total"], model(BATCH)["total"])


def test_a_source_that_is_not_there_has_no_part_in_anything():
    model = built()
    batch = seen_and_heard([[0, 3, 4], [2, NO_CLASS, NO_CLASS]])
    assert batch.pictures is not None
    noise = batch.pictures.clone()
    noise[1, 1:] = torch.randint(0, 256, noise.shape[3:])
    trained = built().train()
    torch.testing.assert_close(trained(replace(batch, pictures=noise))["total"], built().train()(batch)["total"])
    separation = model.separate(mix(batch)[0], Query.of(batch))
    assert separation.masks is not None
    assert separation.masks[1, 1:].eq(0).all() and separation.estimates[1, 1:].eq(0).all()
    # Means over each mixture's own sources, whatever the others'.
    first, second = (model(batch.rows(row, row + 1))["total"] for row in (0, 1))
    torch.testing.assert_close(model(batch)["total"], (first + second) / 2)


def test_a_silent_source_and_one_without_a_class_are_learned_from():
    silent = replace(BATCH, sources=BATCH.sources * torch.tensor([[[1], [1]], [[0], [0]]]).short())
    unnamed = replace(silent, class_ids=torch.tensor([[NO_CLASS, 3], [2, 1]]))
    model = built().train()
    losses = model(unnamed)
    losses["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    of_sources = torch.rand(1, 3, 64, 64)
    assert model.class_losses(of_sources, torch.tensor([[NO_CLASS, 3]]))[0].eq(0).tolist() == [True, False, False]


@pytest.mark.parametrize("config", [SMALL, MIX_SEPARATE])
def test_one_batch_is_learned_by_heart(config):
    model = built(config).train()
    batch = seen_and_heard([[0, 3], [2, 1], [4, 0], [1, 3]])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    first = model(batch)
    losses = first
    for _ in range(50):
        losses = model(batch)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    assert first["reconstruction"].item() > 0.04 and losses["reconstruction"].item() < 0.01
    assert config is MIX_SEPARATE or losses["classification"].item() < 0.1 < first["classification"].item()


def test_gradients_are_differences():
    model = built().double()
    away_from_kinks(model)
    magnitude = torch.rand(2, 1, 64, 64, dtype=torch.float64)

    def loss():
        vectors = model.visual_encoder.of_sources(PICTURES, BATCH.present).flatten(1, 2)
        assert model.scene is not None
        masks = model.masks(magnitude, torch.cat([vectors, model.scene.expand(2, 1, -1)], dim=1))
        return masks.square().sum() + model.class_losses(masks * magnitude, BATCH.class_ids).sum()

    assert_gradients_are_differences(loss, model.named_parameters())


@pytest.mark.parametrize(("weights", "rate"), [("auto", 1e-5), ("none", 1e-4)])
@pytest.mark.parametrize("config", [SMALL, MIX_SEPARATE])
def test_every_parameter_learns_and_what_has_learned_to_see_a_tenth_as_fast(config, weights, rate):
    model = built(config).train()
    model(BATCH)["total"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    groups = replace(config, initial_weights=weights).parameter_groups(model)
    (optimizer,) = make_optimizers(model, groups, CO_SEPARATION)
    seeing, others = optimizer.param_groups
    assert (seeing["lr"], others["lr"]) == (pytest.approx(rate), pytest.approx(1e-4))
    assert {id(p) for p in seeing["params"]} == {id(p) for p in model.visual_encoder.parameters()}
    assert len(seeing["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_bfloat16_autocast_gives_the_loss_of_float32_to_its_precision():
    model = built().train()
    exact = model(BATCH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(BATCH)
    rounded["total"].backward()
    assert all(value.dtype == torch.float32 for value in rounded.values())
    torch.testing.assert_close(rounded["total"], exact["total"], rtol=0.03, atol=0.0)


def test_switches_change_what_they_say_and_nothing_else():
    model = built()
    mixture, query = mix(BATCH)[0], Query.of(BATCH)
    own, losses = model.separate(mixture, query), model(BATCH)

    def changed(**settings) -> dict[str, Tensor]:
        """Losses; what is answered has to be the same."""
        other = like(model, **settings)
        torch.testing.assert_close(other.separate(mixture, query).estimates, own.estimates)
        return other(BATCH)

    plain = changed(scene=False, class_weight=0.0)
    assert set(plain) == {"reconstruction", "total"} and plain["total"].equal(plain["reconstruction"])
    assert not plain["total"].equal(losses["reconstruction"])
    untold = changed(class_weight=0.0)
    assert set(untold) == {"reconstruction", "total"} and untold["total"].equal(losses["reconstruction"])
    unseen = changed(scene=False)
    assert unseen["reconstruction"].equal(plain["total"]) and not unseen["classification"].equal(
        losses["classification"]
    )
    heavier = changed(class_weight=1.0)
    torch.testing.assert_close(heavier["total"], losses["reconstruction"] + losses["classification"])
    for settings in ({"weighted_loss": False}, {"target_scale": 2.0}):
        other = changed(**settings)
        assert other["classification"].equal(losses["classification"])
        assert not other["reconstruction"].equal(losses["reconstruction"])


@pytest.mark.parametrize("config", [CoSeparationConfig(), AV_MIX_SEPARATE, SMALL_CO_SEPARATION, SMALL_AV_MIX_SEPARATE])
def test_a_checkpoint_can_hold_it(config):
    require_kept(config, "model.")
    require_built_without_values(config, 5)


@pytest.mark.parametrize(
    ("config", "modules"),
    [
        (CoSeparationConfig(), ("visual_encoder.resnet", "classifier.resnet")),
        (AV_MIX_SEPARATE, ("visual_encoder.resnet",)),
    ],
)
def test_it_starts_from_torchvisions_weights_but_for_a_first_convolution_of_one_channel(config, modules):
    start = config.start()
    assert start.modules == modules and start.chosen == "auto"
    model, theirs = config.build(5), torchvision.models.resnet18(weights=None).state_dict()
    for name in modules:
        module: Any = model.get_submodule(name)
        first = module.conv1.weight.detach().clone()
        module.load_torchvision(theirs)
        assert module.layer4[1].conv2.weight.equal(theirs["layer4.1.conv2.weight"])
        assert module.conv1.weight.equal(first if name == "classifier.resnet" else theirs["conv1.weight"])
        with pytest.raises(RuntimeError):
            module.load_torchvision({name: value for name, value in theirs.items() if "bn1" not in name})


def test_weights_start_as_in_the_authors_code():
    torch.manual_seed(0)
    model = SMALL_CO_SEPARATION.build(5)
    assert model.classifier is not None and model.scene is not None
    encoder = model.visual_encoder
    for part in (model.unet, encoder.project, encoder.linear, model.classifier.linear):
        for module in part.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and module.weight.numel() > 1000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            if isinstance(module, nn.BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1, abs=0.03) and module.bias.eq(0).all()
    # The scene is as long as what is seen of pictures.
    vectors = encoder(torch.randint(0, 256, (8, 128, 128, 3), dtype=torch.uint8))
    assert 1 / 3 < (vectors.std() / model.scene.std()).item() < 3


def test_the_papers_network_has_the_size_of_its_parts():
    """The paper states no size. ResNet-18s without their classifiers, and the published code's layers written down."""
    with torch.device("meta"):
        model = CoSeparationConfig().build(11)
        plain = AV_MIX_SEPARATE.build(11)
    resnet = sum(p.numel() for name, p in torchvision.models.resnet18().named_parameters() if "fc" not in name)
    seeing = resnet + (512 * 128 + 128 + 2 * 128) + (128 * 7 * 7 * 512 + 512)
    widths = [64, 128, 256, 512, 512, 512, 512]
    down = [16 * before * after for before, after in zip([1, *widths], widths, strict=False)]
    inner, outer = [1024, 1024, 1024, 1024, 512, 256, 128], [512, 512, 512, 256, 128, 64, 1]
    up = [16 * before * after for before, after in zip(inner, outer, strict=True)]
    unet = sum(down) + sum(up) + 3 * sum(widths) + 3 * sum(outer[:-1]) + 1
    classifier = resnet - 2 * 49 * 64 + 512 * 12 + 12

    def size(part: nn.Module) -> int:
        return sum(p.numel() for p in part.parameters())

    assert size(plain.unet) == unet == 46_022_785
    assert size(plain) == seeing + unet == 60_476_993
    assert size(model) == seeing + unet + classifier + 512 == 71_653_901
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        masks = plain.unet(torch.empty(1, 1, 256, 256), torch.empty(1, 2, 512))
    assert masks.shape == (1, 2, 256, 256)
    # Each place of the smaller map meets the whole kernel. Of the way up, what is heard is worked out once.
    area = [(128 >> level) ** 2 for level in range(7)]
    products = sum(size * cells for size, cells in zip(down, area, strict=True))
    products += sum(size * cells for size, cells in zip(up, area[::-1], strict=True)) * 3 // 2
    assert counter.get_total_flops() == 2 * products


def test_what_it_cannot_learn_from_or_be_tested_on_is_refused():
    SMALL.require_mixing(MIXING)
    SMALL.require_test_mixing(replace(MIXING, num_sources=3, min_sources=1, pictures_per_source=3))
    for change, message in (
        ({"pictures_per_source": 0}, "finds a source by its pictures"),
        ({"picture_side": 50}, "multiple of 8"),
        ({"picture_side": 128}, "reads pictures of 64 pixels"),
        ({"segment_samples": 5000}, r"4095 samples are the nearest"),
        ({"distinct_classes": False}, "one class a source"),
        ({"several_classes": True}, "one class a source"),
        ({"num_sources": 1}, "nothing to separate"),
        ({"picture_part": "box"}, "model.objects frame goes with --mixing.picture-part whole, not with box"),
    ):
        with pytest.raises(UsageError, match=message):
            SMALL.require_mixing(replace(MIXING, **change))
    of_boxes = replace(SMALL, objects="box")
    of_boxes.require_mixing(replace(MIXING, picture_part="box"))
    with pytest.raises(UsageError, match=r"model.objects box goes with --mixing.picture-part box, not with whole"):
        of_boxes.require_mixing(MIXING)
    for change, message in (
        ({"unet_depth": 6}, "leaves one of 64 rows"),
        ({"picture_side": 60}, "multiple of 8"),
        ({"class_weight": -1.0}, "class_weight must not be negative"),
        ({"target_scale": 0.0}, "target_scale must be positive"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)
