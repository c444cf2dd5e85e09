"""Co-segmentation: masks out of bases, losses, objects of sources with several classes, and what it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.masks import ideal_binary_mask, ideal_ratio_mask
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.config.settings import require_kept
from cocktail.layers.mask_bases import NOTHING, Objects, logit_of_any
from cocktail.layers.masking import magnitudes_of
from cocktail.models.cosegmentation import SMALL_COSEGMENTATION, CoSegmentation, CoSegmentationConfig
from cocktail.train.update import make_optimizers
from cocktail.types import NO_CLASS, UsageError
from pipelines.experiments.benchmarks import COSEGMENTATION
from tests.made.models.finite_differences import assert_gradients_are_differences, away_from_kinks
from tests.made.models.plain_head import PlainMaskHead
from tests.made.models.small_cosegmentation import NUM_CLASSES, SMALL, WHOLE_PICTURES, duets
from tests.made.models.small_sound_of_pixels import MIXING, seen_and_heard

BATCH = seen_and_heard([[0, 3], [2, 1]])
DUETS = duets([[[0, 3], [1]], [[2], [4]]])


def built(config: CoSegmentationConfig = SMALL) -> CoSegmentation:
    torch.manual_seed(0)
    return config.build(NUM_CLASSES).eval()  # pyright: ignore[reportReturnType]


def test_objects_are_the_classes_of_sources_each_with_a_place_among_them():
    labels = torch.zeros(2, 2, 4, dtype=torch.bool)
    labels[0, 0, 1] = labels[0, 0, 3] = labels[0, 1, 0] = labels[1, 0, 2] = True
    objects = Objects.of(labels)
    listed = zip(objects.mixtures, objects.sources, objects.slots, objects.class_ids, strict=True)
    assert [tuple(int(each) for each in row) for row in listed] == [
        (0, 0, 0, 1),
        (0, 0, 1, 3),
        (0, 1, 0, 0),
        (1, 0, 0, 2),
    ]
    assert objects.there.tolist() == [[[True, True], [True, False]], [[True, False], [False, False]]]


def test_the_logit_of_any_is_that_of_one_less_the_product_of_all_that_are_not():
    logits = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64) * 3
    expected = 1 - (1 - logits.sigmoid()).prod(dim=2)
    torch.testing.assert_close(logit_of_any(logits).sigmoid(), expected)
    one = torch.cat([logits[:, :, :1], torch.full_like(logits[:, :, :2], NOTHING)], dim=2).float()
    assert logit_of_any(one).equal(logits[:, :, 0].float())
    assert logit_of_any(torch.full((1, 1, 2, 1, 1), NOTHING)).sigmoid().item() == 0
    extreme = torch.tensor([-90.0, 90.0]).view(1, 1, 2, 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(logit_of_any(extreme).sum(), extreme)
    assert gradient.isfinite().all()


def test_a_coefficient_alone_is_its_basis_and_folded_masks_are_the_plain_ones():
    model = built()
    magnitude = torch.rand(2, 1, 64, 64)
    levels = model.unet.levels(magnitude.log())
    features = model.unet.up_from(levels)
    head = model.mask_head
    assert {name for name, _ in head.named_parameters()} == {"weight", "map_bias"}
    bases = F.conv2d(
        F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True),
        head.weight,
        head.map_bias,
        padding=1,
    )
    one_each = torch.eye(8).expand(2, -1, -1)
    torch.testing.assert_close(head(features, one_each).sigmoid(), bases.sigmoid(), atol=1e-5, rtol=0)
    coefficients = torch.randn(2, 3, 8)
    expected = torch.einsum("bnj,bjrm->bnrm", coefficients, bases)
    torch.testing.assert_close(head(features, coefficients), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(PlainMaskHead.of(head)(features, coefficients), expected, atol=1e-5, rtol=0)


def test_coefficients_come_from_what_is_seen_beside_what_is_heard():
    model = built()
    objects = Objects.of(model.labels_of(DUETS))
    vectors = torch.randn(5, 16)
    spectrogram = torch.rand(2, 1, 64, 64)
    logits, coefficients = model.mask_logits(spectrogram, vectors, objects)
    assert logits.shape == (2, 2, 2, 64, 64) and coefficients.shape == (2, 2, 2, 8)
    assert logits[~objects.there].eq(NOTHING).all() and coefficients[~objects.there].eq(0).all()
    assert logits[objects.there].gt(NOTHING).all()
    for changed, same in ((0, 2), (3, 0)):  # objects of the first and the second mixture
        other = vectors.clone()
        other[changed] += 1.0
        moved, _ = model.mask_logits(spectrogram, other, objects)
        differs = (moved != logits).flatten(3).any(dim=3)
        place = tuple(each[changed] for each in (objects.mixtures, objects.sources, objects.slots))
        assert differs.sum() == 1 and differs[place]
        assert not differs[tuple(each[same] for each in (objects.mixtures, objects.sources, objects.slots))]
    louder = spectrogram.clone()
    louder[1, :, :32] *= 10
    _, heard = model.mask_logits(louder, vectors, objects)
    assert heard[0].equal(coefficients[0]) and not torch.allclose(heard[1], coefficients[1])


def masks_by_hand(model: CoSegmentation, batch) -> tuple[list[list[list[Tensor]]], Tensor, Tensor]:
    """Logits of each labelled object of each source, object by object, and log-frequency magnitudes."""
    magnitude, sources = magnitudes_of(model.front_end, batch)
    seen, labels = model.see(batch.pictures, batch.present), model.labels_of(batch)
    masks: list[list[list[Tensor]]] = []
    for b in range(len(batch)):
        masks.append([])
        for n in range(batch.present.shape[1]):
            masks[b].append([])
            for class_id in labels[b, n].nonzero()[:, 0].tolist():
                one = torch.zeros_like(labels)
                one[b, n, class_id] = True
                objects = Objects.of(one)
                vectors = seen.attended(objects, model.config.feature_pool)
                masks[b][n].append(model.mask_logits(magnitude, vectors, objects)[0][b, n, 0])
    return masks, magnitude, sources


@pytest.mark.parametrize("kind", ["binary", "ratio"])
@pytest.mark.parametrize("batch", [BATCH, DUETS])
def test_losses_are_written_out_source_by_source(kind, batch):
    model = built(replace(SMALL, masks=kind))
    masks, magnitude, sources = masks_by_hand(model, batch)
    weight = torch.log(1 + magnitude[:, 0]).clamp(1e-3, 10)
    losses = []
    for b in range(2):
        for n in range(2):
            shares = [logit.sigmoid() for logit in masks[b][n]]
            if kind == "binary":
                target = ideal_binary_mask(sources, magnitude)[b, n]
                mask = 1 - torch.stack([1 - share for share in shares]).prod(dim=0)
                bins = F.binary_cross_entropy(mask, target, reduction="none")
            else:
                target = ideal_ratio_mask(sources, magnitude)[b, n]
                bins = (torch.stack(shares).sum(dim=0) - target).abs()
            losses.append((weight[b] * bins).mean())
    found = model(batch)
    torch.testing.assert_close(found["reconstruction"], torch.stack(losses).mean(), rtol=1e-4, atol=1e-6)
    labels = batch.labels if batch.labels is not None else F.one_hot(batch.class_ids, NUM_CLASSES).bool()
    scores = model.see(batch.pictures, batch.present).scores
    classes = F.binary_cross_entropy_with_logits(scores, labels.float(), reduction="none").sum(dim=2).mean()
    torch.testing.assert_close(found["visual_presence"], classes)
    torch.testing.assert_close(found["total"], found["reconstruction"] + found["visual_presence"])


def test_the_loss_of_masks_reaches_the_segmenter_and_the_pictures():
    model = built()
    model(BATCH)["reconstruction"].backward()
    for part in (model.segmenter, model.visual_encoder, model.generator, model.unet.gates):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_of_solos_labels_say_nothing_more_than_classes():
    model = built()
    labels = F.one_hot(BATCH.class_ids, NUM_CLASSES).bool()
    torch.testing.assert_close(model(replace(BATCH, labels=labels)), model(BATCH))


@pytest.mark.parametrize("config", [SMALL, WHOLE_PICTURES])
def test_a_source_that_is_not_there_has_no_part_in_anything(config):
    batch = seen_and_heard([[0, 3, 4], [2, NO_CLASS, NO_CLASS]])
    assert batch.pictures is not None
    noise = batch.pictures.clone()
    noise[1, 1:] = torch.randint(0, 256, noise.shape[3:])
    quiet = replace(config, attention_dropout=0.0) if config.segmenter else config
    trained = built(quiet).train()
    torch.testing.assert_close(trained(replace(batch, pictures=noise))["total"], built(quiet).train()(batch)["total"])
    model = built(config)
    whole, first, second = (model(part) for part in (batch, batch.rows(0, 1), batch.rows(1, 2)))
    for name, loss in whole.items():  # each mixture weighs the same, however many sources it has
        torch.testing.assert_close(loss, (first[name] + second[name]) / 2, msg=name)


def learned(model: CoSegmentation, batch) -> dict[str, Tensor]:
    """Losses of the last of a hundred steps on a batch. The last thirty are small, so that running averages settle."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [70])
    losses: dict[str, Tensor] = {}
    for _ in range(100):
        losses = model(batch)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        schedule.step()
    return losses


@pytest.mark.parametrize(
    ("config", "of_halves"), [(SMALL, 0.09), (replace(SMALL, masks="ratio"), 0.06), (WHOLE_PICTURES, 0.09)]
)
def test_one_batch_is_learned_by_heart(config, of_halves):
    """As it is used, without dropout: of masks of a half all over to a twentieth of their loss."""
    model = built(config)
    batch = seen_and_heard([[0, 3], [2, 1], [4, 0], [1, 3]])
    first = model(batch)
    learned(model.train(), batch)
    last = model.eval()(batch)
    assert first["reconstruction"].item() > of_halves and last["reconstruction"].item() < 0.005
    if config.segmenter:
        assert first["visual_presence"].item() > 3 and last["visual_presence"].item() < 0.1


def test_duets_are_learned_by_heart_too():
    """By the batch's own statistics: the narrowest maps of two mixtures are too few for running averages of them."""
    model = built(replace(SMALL, attention_dropout=0.0)).train()
    first, last = model(DUETS), learned(model, DUETS)
    assert first["reconstruction"].item() > 0.08 and last["reconstruction"].item() < 0.005
    assert first["visual_presence"].item() > 3 and last["visual_presence"].item() < 0.1


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, masks="ratio", feature_pool="literal", coef_act="tanh")])
def test_gradients_are_differences(config):
    model = built(config).double()
    away_from_kinks(model)
    magnitude = torch.rand(2, 1, 64, 64, dtype=torch.float64)
    assert DUETS.pictures is not None
    pictures, objects = DUETS.pictures, Objects.of(model.labels_of(DUETS))

    def loss():
        seen = model.see(pictures, DUETS.present)
        logits, _ = model.mask_logits(magnitude, seen.attended(objects, model.config.feature_pool), objects)
        return model.masks(logits).square().sum() + seen.scores.square().sum()

    assert_gradients_are_differences(loss, model.named_parameters())


@pytest.mark.parametrize("config", [CoSegmentationConfig(), SMALL_COSEGMENTATION, WHOLE_PICTURES])
def test_a_checkpoint_can_hold_it(config):
    require_kept(config, "model.")
    require_built_without_values(config, NUM_CLASSES)


def test_it_starts_from_torchvisions_weights():
    start = CoSegmentationConfig().start()
    assert (start.modules, start.chosen) == (("visual_encoder.resnet",), "auto")
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    resnet = CoSegmentationConfig().build(NUM_CLASSES).visual_encoder.resnet
    resnet.load_torchvision(theirs)
    assert resnet.state_dict()["layer4.1.conv2.weight"].equal(theirs["layer4.1.conv2.weight"])


@pytest.mark.parametrize(("weights", "rate"), [("auto", 1e-5), ("none", 1e-4)])
def test_a_resnet_that_has_learned_to_see_learns_at_a_tenth_of_the_rate(weights, rate):
    model = built()
    groups = replace(SMALL, initial_weights=weights).parameter_groups(model)
    (optimizer,) = make_optimizers(model, groups, COSEGMENTATION)
    seeing, others = optimizer.param_groups
    assert (seeing["lr"], others["lr"]) == (pytest.approx(rate), pytest.approx(1e-4))
    assert {id(p) for p in seeing["params"]} == {id(p) for p in model.visual_encoder.resnet.parameters()}
    assert len(seeing["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_bfloat16_autocast_gives_the_loss_of_float32_to_its_precision():
    model = built(replace(SMALL, attention_dropout=0.0)).train()
    exact = model(DUETS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(DUETS)
    rounded["total"].backward()
    assert all(value.dtype == torch.float32 for value in rounded.values())
    torch.testing.assert_close(rounded["total"], exact["total"], rtol=0.03, atol=0.0)


def test_the_papers_network_has_the_size_of_its_parts():
    """The paper states no size: its layers, written down."""
    with torch.device("meta"):
        model, alone = (replace(CoSegmentationConfig(), segmenter=each).build(11) for each in (True, False))
    resnet = sum(p.numel() for name, p in torchvision.models.resnet18().named_parameters() if "fc" not in name)
    seeing = resnet + 9 * 512 * 1024 + 2 * 1024
    unet = 30_532_482 - 256 * (9 * 128 + 1)  # of Sound of Pixels' size, without the maps
    beside, below = [512, 512, 512, 256, 128, 64], [512, 1024, 1024, 1024, 512, 256]
    gates = sum(x // 2 * (x + g + 1 + 4) + 2 for x, g in zip(beside, below, strict=True))
    generator = 9 * 1536 * 512 + 2 * 512 + 512 * 128 + 2 * 128 + 128 * 32 + 32
    head, segmenter = 32 * (9 * 128 + 1), 2 * (1024 * 11 + 11)

    def size(part: nn.Module) -> int:
        return sum(p.numel() for p in part.parameters())

    assert size(model.unet) == unet + gates == 31_505_902
    assert size(alone) == seeing + unet + gates + generator + head == 54_588_782
    assert size(model) == size(alone) + segmenter == 54_611_332
    assert CoSegmentationConfig().stride == 32 and replace(CoSegmentationConfig(), dilate=True).stride == 16


def test_what_it_cannot_learn_from_or_be_tested_on_is_refused():
    SMALL.require_mixing(MIXING)
    SMALL.require_mixing(replace(MIXING, several_classes=True))
    SMALL.require_test_mixing(replace(MIXING, num_sources=3, min_sources=1, distinct_classes=False))
    WHOLE_PICTURES.require_mixing(replace(MIXING, distinct_classes=False))
    for change, message in (
        ({"pictures_per_source": 0}, "finds a source by its picture"),
        ({"picture_side": 50}, "multiple of 8"),
        ({"segment_samples": 5000}, r"4095 samples are the nearest"),
        ({"distinct_classes": False}, "learns from the classes of sources"),
        ({"num_sources": 1}, "nothing to separate"),
    ):
        with pytest.raises(UsageError, match=message):
            SMALL.require_mixing(replace(MIXING, **change))
    for change, message in (
        ({"attention_dropout": 1.0}, "attention_dropout must be in"),
        ({"presence_threshold": 0.0}, "presence_threshold must be in"),
        ({"class_loss_weight": -1.0}, "must not be negative"),
        ({"num_bases": 0}, "num_bases must be at least 1"),
        ({"most_classes": 0}, "most_classes must be at least 1"),
        ({"coef_width": 3}, "coef_width must be at least 4"),
        ({"segmenter": False}, "no attention and no classes: set score_pool to mean$"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)
