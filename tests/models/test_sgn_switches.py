"""Each switch of SGN changes the computation that it names and nothing else."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.audio.ideal_masks import IDEAL_BINARY_MASK, grid_of, ideal_separations
from cocktail.audio.mixing import mix
from cocktail.config.mixing import Mixing
from cocktail.layers.classes import PREDICTED_CLASSES
from cocktail.models.sgn import (
    PREDICTED_NUMBER,
    SGN,
    SOFT_MASKS,
    Prediction,
    SGNConfig,
)
from cocktail.types import NO_CLASS, Query, UsageError
from tests.made.models.small_sgn import SMALL, tones

C = 5
BATCH = tones([[0, 3], [2, 1]])


def build(**switches: Any) -> SGN:
    """A network with a switch thrown, which shares every weight that it has with the network without."""
    torch.manual_seed(0)
    plain = SMALL.build(C)
    with torch.no_grad():  # at the start some weights are zero, and would hide what is done with them
        for name, parameter in plain.named_parameters():
            generator = torch.Generator().manual_seed(parameter.numel())
            spread = 0.15 if name.startswith("branch.") else 0.05  # most switches act there, and must be felt behind it
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
        # Half of the bins lie above the threshold of binary masks: estimates show what becomes of the masks.
        plain.mask_head.bias.sub_(plain.eval().mask_logits(predict(plain), BATCH.class_ids).median())
    model = replace(SMALL, **switches).build(C)
    ours = model.state_dict()
    shared = {
        name: value for name, value in plain.state_dict().items() if name in ours and ours[name].shape == value.shape
    }
    model.load_state_dict({**ours, **shared})
    return model


def predict(model: SGN) -> Prediction:
    """What the network makes of the mixtures before any mask is chosen."""
    return model.predict(model.front_end.warp(model.front_end.stft(mix(BATCH)[0]).abs())[:, None])


def observe(model: SGN) -> dict[str, Tensor]:
    """What there is to see of a training step and of a separation."""
    torch.manual_seed(1)
    model.train()
    losses = {f"loss {name}": value.detach() for name, value in model(BATCH).items() if name != "total"}
    model.eval()
    mixture, references = mix(BATCH)
    separation = model.separate(mixture, Query.naming(BATCH.class_ids))
    seen = {
        **losses,
        "features": predict(model).features.detach(),
        "masks": separation.masks,
        "estimates": separation.estimates,
        "ideal": ideal_separations(grid_of(model, mixture.device), mixture, references)[IDEAL_BINARY_MASK].estimates,
    }
    return seen | {
        name: separation.intermediates[name]
        for name in ("tokens", "assignment", "presence", "vectors")
        if name in separation.intermediates
    }


# All that follows from the vectors: what they pick, and what is made of it.
FROM_VECTORS = {"vectors", "presence", "masks", "estimates", "loss reconstruction", "loss presence"}
FROM_TOKENS = FROM_VECTORS | {"tokens", "assignment"}
NO_GROUPING = {"assignment"}
NO_CLASSES = {"assignment", "tokens", "presence", "loss token", "loss presence"}
SWITCHES = [
    ({"depth": 1}, FROM_TOKENS, set()),
    ({"attention": "literal"}, FROM_TOKENS, set()),
    ({"patch_embedding": "convolutions"}, FROM_TOKENS, set()),
    ({"pos_embed": "none"}, FROM_TOKENS, set()),
    ({"assignment": "hard"}, FROM_VECTORS | {"assignment"}, set()),
    ({"softmax_axis": "patches"}, FROM_VECTORS | {"assignment"}, set()),
    ({"grouping_eps": 1.0}, FROM_VECTORS, set()),
    ({"grouping": "groupvit"}, FROM_VECTORS | {"assignment"}, set()),
    ({"source_vectors": "tokens"}, FROM_VECTORS, NO_GROUPING),
    ({"source_vectors": "grouped_queries"}, FROM_TOKENS, {"loss token"}),
    ({"source_vectors": "pooled_slots"}, FROM_VECTORS, NO_CLASSES),
    ({"source_vectors": "static_class"}, FROM_VECTORS, NO_CLASSES),
    ({"input_norm": "mixture"}, FROM_TOKENS | {"features"}, set()),
    ({"masks": "ratio"}, {"loss reconstruction", "estimates"}, set()),
    ({"weighted_loss": False}, {"loss reconstruction"}, set()),
    ({"group_reduction": "sum"}, {"loss token", "loss presence"}, set()),
]


@pytest.mark.parametrize(
    ("switch", "changes", "absent"), SWITCHES, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
def test_a_switch_changes_what_it_names_and_nothing_else(switch, changes, absent):
    plain, thrown = observe(build()), observe(build(**switch))
    assert plain.keys() - thrown.keys() == absent
    assert thrown.keys() <= plain.keys()
    changed = {
        name
        for name, value in thrown.items()
        if value.shape != plain[name].shape or not torch.allclose(value, plain[name], rtol=1e-6, atol=1e-7)
    }
    assert changed == changes - absent


def test_every_reading_of_table_three_learns_with_all_of_its_weights():
    for kind in ("grouped_tokens", "tokens", "grouped_queries", "pooled_slots", "static_class"):
        torch.manual_seed(0)
        model = replace(SMALL, source_vectors=kind).build(C)
        losses = model(BATCH)
        losses["total"].backward()
        learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        without = [name for name, p in learning.items() if p.grad is None or not p.grad.abs().sum() > 0]
        assert without == [], kind
        torch.testing.assert_close(losses["total"], torch.stack([v for k, v in losses.items() if k != "total"]).sum())


def test_sums_over_classes_are_means_times_their_number():
    means, sums = observe(build()), observe(build(group_reduction="sum"))
    torch.testing.assert_close(sums["loss token"], means["loss token"] * C)
    torch.testing.assert_close(sums["loss presence"], means["loss presence"] * C)


def test_ratio_targets_are_shares_of_the_mixture_in_zero_to_one():
    model = build(masks="ratio")
    _, references = mix(BATCH)
    magnitude, targets = model._targets(BATCH)
    sources = model.front_end.warp(model.front_end.stft(references).abs())
    expected = (sources / magnitude).clamp(0, 1)
    torch.testing.assert_close(targets, expected, atol=1e-5, rtol=1e-4)
    assert ((targets > 0.1) & (targets < 0.9)).any()


def test_slots_are_charged_for_their_best_order():
    model = build(source_vectors="pooled_slots").eval()
    swapped = replace(
        BATCH,
        sources=BATCH.sources.flip(1).contiguous(),
        class_ids=BATCH.class_ids.flip(1),
    )
    losses, swapped_losses = model(BATCH), model(swapped)
    torch.testing.assert_close(losses["reconstruction"], swapped_losses["reconstruction"])
    magnitude, targets = model._targets(BATCH)
    logits = model.mask_logits(model.predict(magnitude), BATCH.class_ids)
    weight = torch.log1p(magnitude).clamp(1e-3, 10)
    orders = [
        F.binary_cross_entropy_with_logits(logits, targets[:, order], weight=weight, reduction="none")
        .mean((2, 3))
        .sum(1)
        for order in ([0, 1], [1, 0])
    ]
    torch.testing.assert_close(losses["reconstruction"], torch.minimum(*orders).mean())
    assert (orders[0] != orders[1]).all()


def test_slots_refuse_another_number_of_sources_than_theirs():
    model = build(source_vectors="pooled_slots").eval()
    mixture, _ = mix(tones([[0, 3, 4]]))
    with pytest.raises(UsageError, match="pooled_slots separates 2 sources"):
        model.separate(mixture, Query.naming(torch.tensor([[0, 3, 4]])))
    config = SGNConfig(source_vectors="pooled_slots")
    config.require_mixing(Mixing())
    with pytest.raises(UsageError, match="num_slots 2"):
        config.require_mixing(Mixing(num_sources=3))


def test_sources_that_no_one_class_names_are_refused_where_classes_name_them():
    for mixing, option in ((Mixing(distinct_classes=False), "no-distinct"), (Mixing(several_classes=True), "several")):
        with pytest.raises(UsageError, match=f"leave out --mixing.{option}-classes"):
            SGNConfig().require_test_mixing(mixing)
        SGNConfig(source_vectors="pooled_slots").require_test_mixing(mixing)


@pytest.mark.parametrize("config", [SGNConfig(), SGNConfig(source_vectors="pooled_slots")])
def test_whole_clips_are_refused_for_want_of_references(config):
    with pytest.raises(UsageError, match=r"leave --mixing\.arrangement at remixed or released"):
        config.require_mixing(Mixing(arrangement="whole"))
    with pytest.raises(UsageError, match="no reference for each source"):
        config.require_test_mixing(Mixing(arrangement="whole"))


@pytest.mark.parametrize(
    "settings",
    [
        {"assignment": "hard", "softmax_axis": "patches"},
        {"source_vectors": "tokens", "assignment": "hard"},
        {"source_vectors": "static_class", "grouping": "groupvit"},
        {"source_vectors": "pooled_slots", "grouping_eps": 1.0},
    ],
)
def test_switches_that_would_do_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=r"softmax_axis"):
        SGNConfig(**settings)


def test_eps_is_one_for_hard_and_next_to_nothing_for_soft_unless_said():
    assert SGNConfig().eps == 1e-6
    assert SGNConfig(assignment="hard").eps == 1.0
    assert SGNConfig(assignment="hard", grouping_eps=0.5).eps == 0.5


def test_a_source_of_a_predicted_class_is_the_one_of_that_class():
    model = build().eval()
    mixture, _ = mix(tones([[0, 3], [2, 1], [4, 1]]))
    separation = model.separate(mixture, Query.naming(torch.tensor([[0, 3], [2, 1], [4, NO_CLASS]])))
    predicted = separation.alternatives[PREDICTED_CLASSES]
    assert ((predicted.class_ids >= 0).sum(dim=1)).tolist() == [2, 2, 1]
    everything = model.separate(mixture, Query.naming(torch.arange(C).expand(3, C)))
    assert everything.masks is not None and predicted.masks is not None and separation.masks is not None
    for b in range(3):
        for k, class_id in enumerate(predicted.class_ids[b].tolist()):
            expected = everything.masks[b, class_id] if class_id >= 0 else torch.zeros(64, 64)
            torch.testing.assert_close(predicted.masks[b, k], expected)
    assert (predicted.estimates[2, 1] == 0).all()
    number = separation.alternatives[PREDICTED_NUMBER]
    presence = separation.intermediates["presence"]
    assert (number.class_ids >= 0).sum(dim=1).tolist() == (presence > 0.5).sum(dim=1).clamp(1, 4).tolist()
    assert (separation.masks[2, 1] == 0).all()


def test_soft_masks_multiply_where_binary_ones_cut():
    model = build().eval()
    mixture, _ = mix(BATCH)
    separation = model.separate(mixture, Query.naming(BATCH.class_ids))
    soft = separation.alternatives[SOFT_MASKS]
    assert separation.masks is not None
    transform = model.front_end.stft(mixture)
    expected = model.front_end.istft(transform[:, None] * model.front_end.unwarp(separation.masks)).clamp(-1, 1)
    torch.testing.assert_close(soft.estimates, expected)
    assert not torch.allclose(soft.estimates, separation.estimates, atol=1e-3)
    assert SOFT_MASKS not in build(masks="ratio").eval().separate(mixture, Query.naming(BATCH.class_ids)).alternatives


def test_a_gradient_is_the_slope_of_the_loss(monkeypatch):
    """Of the whole loss, in float64, along a random direction through all parameters at once."""
    torch.manual_seed(0)
    # Activations far above the step, so that it crosses few kinks.
    model = replace(SMALL, width=8, depth=1, num_heads=2, unet_width=2, conv_init_std=0.3).build(C)
    with torch.no_grad():
        targets = tuple(value.double() for value in model._targets(BATCH))
    monkeypatch.setattr(model, "_targets", lambda batch: targets)
    model = model.double().eval()

    def loss() -> Tensor:
        return model(BATCH)["total"]

    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss(), parameters)
    generator = torch.Generator().manual_seed(3)
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))

    def moved(step: float) -> Tensor:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=step)
            value = loss()
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(d, alpha=step)
        return value

    step = 1e-7
    torch.testing.assert_close((moved(step) - moved(-step)) / (2 * step), slope, rtol=1e-5, atol=1e-8)


def test_confusion_counts_presence_and_tokens():
    model = build().eval()
    counts = model.confusion(BATCH)
    assert counts["token"].sum(dim=0)[0] + counts["token"].sum(dim=0)[2] == C  # each class is recognised or missed
    presence = model.separate(mix(BATCH)[0], Query.naming(BATCH.class_ids)).intermediates["presence"] > 0.5
    for class_id in range(C):
        heard = torch.tensor([class_id in ids for ids in BATCH.class_ids.tolist()])
        said = presence[:, class_id]
        expected = [(said & heard).sum(), (said & ~heard).sum(), (~said & heard).sum()]
        assert counts["presence"][class_id].tolist() == [int(value) for value in expected]
    assert build(source_vectors="static_class").confusion(BATCH) == {}


def test_the_class_constraint_alone_is_learned_in_a_hundred_and_seventeen_steps():
    """So it cannot fail, and says nothing about sound (SGN Fig. 4): 11 classes, SGD 1e-3 with momentum, means."""
    torch.manual_seed(0)
    model = replace(SMALL, width=256, num_heads=8, depth=1).build(11)
    assert model.token_classifier is not None
    optimizer = torch.optim.SGD([model.branch.class_tokens, *model.token_classifier.parameters()], 1e-3, momentum=0.9)
    steps = 0
    while (model.token_classifier(model.branch.class_tokens).argmax(1) != torch.arange(11)).any():
        loss = F.cross_entropy(model.token_classifier(model.branch.class_tokens), torch.arange(11))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    assert math.isclose(steps, 117, rel_tol=0.5)
