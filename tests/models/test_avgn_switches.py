"""Each switch of AVGN changes the computation that it names and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cocktail.audio.mixing import superpose
from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.layers.resnet import ResNet18
from cocktail.layers.two_towers import WITH_OBJECT_PRIOR
from cocktail.models.avgn import AVGNConfig
from cocktail.types import NO_CLASS, Query, UsageError
from tests.made.corpora.shapes_and_tones import RATE, scenes
from tests.made.models.object_prior import blended_with_prior
from tests.made.models.small_avgn import MIXING, SMALL, C, pictures_of

BATCH = scenes([[0, 3], [2, 1], [0, 4]])


def build(**switches: Any) -> Any:
    """A network with a switch thrown, which shares every weight that it has with the network without."""
    torch.manual_seed(0)
    plain = SMALL.build(C)
    with torch.no_grad():  # at the start some weights are zero, and would hide what is done with them
        for parameter in plain.parameters():
            generator = torch.Generator().manual_seed(parameter.numel())
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    model = replace(SMALL, **switches).build(C)
    ours = model.state_dict()
    shared = {
        name: value for name, value in plain.state_dict().items() if name in ours and ours[name].shape == value.shape
    }
    model.load_state_dict({**ours, **shared})
    return model


def observe(model: Any) -> dict[str, Tensor]:
    """What there is to see of a training step and of maps."""
    model.eval()
    own = model.localize(superpose(BATCH), Query.of(BATCH))
    torch.manual_seed(1)
    model.train()  # from here on BatchNorm's running statistics change
    losses = {f"loss {name}": value.detach() for name, value in model(BATCH).items() if name != "total"}
    readings = {model.config.view: own, **own.alternatives}
    maps = {view: readings[view].maps for view in ("wide", "split")}
    return {**losses, **maps, **own.intermediates}


HEARD = {"audio_vectors", "presence", "loss presence"}
SEEN = {"visual_vectors", "visual_presence", "loss visual_presence"}
MATCHED = {"wide", "split", "loss localization"}
ALL = HEARD | SEEN | MATCHED
NO_CLASSES = {"assignment", "loss token", *HEARD, *SEEN}
SWITCHES = [
    ({"depth": 2}, ALL | {"assignment"}, set()),
    ({"attention": "literal"}, ALL | {"assignment"}, set()),
    ({"assignment": "hard"}, ALL | {"assignment"}, set()),
    ({"grouping": "groupvit"}, ALL | {"assignment"}, set()),
    ({"visual_eps": 1.0}, SEEN | MATCHED, set()),
    ({"audio_eps": 0.1}, HEARD | MATCHED, set()),
    ({"source_vectors": "tokens"}, ALL, {"assignment"}),
    ({"source_vectors": "grouped_queries"}, ALL | {"assignment"}, {"loss token"}),
    ({"source_vectors": "pooled"}, MATCHED, NO_CLASSES),
    ({"audio_tokens": "map"}, HEARD | MATCHED, set()),
    ({"view": "split"}, SEEN | {"assignment", "loss localization"}, set()),
    ({"localization_loss": "code"}, MATCHED, set()),
    ({"gate": "residual"}, MATCHED, set()),
    ({"negative_gate": "own"}, {"loss localization"}, set()),
    ({"mask_same_class": True}, {"loss localization"}, set()),
    ({"temperature": 0.1}, {"loss localization"}, set()),
    ({"group_reduction": "sum"}, {"loss token", "loss presence", "loss visual_presence"}, set()),
    ({"visual_stages": 3}, SEEN | MATCHED | {"assignment"}, set()),
    ({"spectrum": PowerSpectrumConfig(hop="code238", sample_rate_hz=RATE)}, HEARD | MATCHED, set()),
]


@pytest.mark.parametrize(
    ("switch", "changes", "absent"), SWITCHES, ids=lambda value: str(value)[:60] if isinstance(value, dict) else ""
)
def test_a_switch_changes_what_it_names_and_nothing_else(switch, changes, absent):
    plain, thrown = observe(build()), observe(build(**switch))
    assert plain.keys() - thrown.keys() == absent
    assert thrown.keys() <= plain.keys()
    changed = {
        name
        for name, value in thrown.items()
        if value.shape != plain[name].shape or not torch.allclose(value, plain[name], rtol=1e-5, atol=1e-6)
    }
    assert changed == changes


@pytest.mark.parametrize("kind", ["grouped_tokens", "tokens", "grouped_queries", "pooled"])
def test_every_row_of_table_three_learns_with_all_of_its_weights(kind):
    model = build(source_vectors=kind)
    losses = model(BATCH)
    losses["total"].backward()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    without = [name for name, p in learning.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    torch.testing.assert_close(losses["total"], torch.stack([v for k, v in losses.items() if k != "total"]).sum())


def test_weights_of_losses_weigh_them():
    weights = {"localization_loss_weight": 2.0, "token_loss_weight": 3.0, "presence_loss_weight": 5.0}
    losses = build(**weights)(BATCH)
    presence = losses["presence"] + losses["visual_presence"]
    torch.testing.assert_close(losses["total"], 2 * losses["localization"] + 3 * losses["token"] + 5 * presence)


def test_the_codes_maps_are_inner_products_over_the_temperature_without_a_gate():
    model = build(localization_loss="code").eval()
    heard, seen = model.hear(superpose(BATCH)), model.see(pictures_of(BATCH), "wide")
    sound = heard.classes[0, 3]
    similarity = seen.features[0, 0] @ sound / model.config.temperature
    maps = model.localize(superpose(BATCH), Query.of(BATCH)).maps
    torch.testing.assert_close(maps[0, 1, 0, 0], similarity[0])  # in the corner nothing is interpolated


def test_a_hard_assignment_gives_each_location_to_one_class():
    localization = build(assignment="hard").eval().localize(superpose(BATCH), Query.of(BATCH))
    assignment = localization.intermediates["assignment"]
    assert assignment.sum(dim=-1).eq(1).all() and assignment.amax(dim=-1).eq(1).all()


def test_without_classes_one_map_serves_all():
    model = build(source_vectors="pooled").eval()
    localization = model.localize(superpose(BATCH), Query.of(BATCH))
    assert localization.maps.shape[:2] == localization.class_ids.shape == (len(BATCH), 1)
    assert localization.alternatives["split"].maps.shape[1] == 2  # one for each picture
    assert (localization.class_ids == NO_CLASS).all()


def test_the_bare_contrast_is_weighed_too():
    losses = build(source_vectors="pooled", localization_loss_weight=2.0)(BATCH)
    assert set(losses) == {"localization", "total"}
    torch.testing.assert_close(losses["total"], 2 * losses["localization"])


def test_an_object_prior_is_imagenets_mean_feature_blended_in_and_is_never_trained():
    torch.manual_seed(0)
    config = replace(SMALL, resnet_width=64, token_init_std=1.0, ogl_alpha=0.3)
    model = config.build(C)
    theirs = ResNet18()
    with torch.no_grad():
        for buffer in theirs.buffers():
            buffer.add_((0.01 * torch.rand_like(buffer.float())).to(buffer.dtype))
    assert config.start().needed_for == "ogl_alpha"
    for module in config.start().modules:
        given: Any = model.get_submodule(module)
        given.load_torchvision({**theirs.state_dict(), "fc.weight": torch.zeros(2)})
    model.train()(BATCH)["total"].backward()
    model.localize(superpose(BATCH), Query.of(BATCH))  # would change batch statistics
    assert model.object_prior is not None
    for name, value in model.object_prior.resnet.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=0, atol=0)
    assert all(p.grad is None for p in model.object_prior.parameters())

    own = model.eval().localize(superpose(BATCH), Query.of(BATCH))
    blended = own.alternatives[WITH_OBJECT_PRIOR]
    assert blended.class_ids.equal(own.class_ids)
    wide = torch.cat([pictures_of(BATCH)[0, 0], pictures_of(BATCH)[0, 1]], dim=1)
    expected = blended_with_prior(own.maps[0, 1], theirs.eval(), wide, 0.3)
    torch.testing.assert_close(blended.maps[0, 1], expected, rtol=1e-4, atol=1e-5)


def test_settings_that_mean_nothing_are_refused():
    for change, message in (
        ({"source_vectors": "tokens", "assignment": "hard"}, "does no grouping"),
        ({"source_vectors": "pooled", "audio_tokens": "map"}, "leave audio_tokens"),
        ({"source_vectors": "pooled", "gate": "residual"}, "leave audio_tokens"),
        ({"source_vectors": "pooled", "localization_loss": "code"}, "leave audio_tokens"),
        ({"source_vectors": "pooled", "mask_same_class": True}, "leave audio_tokens"),
        ({"localization_loss": "code", "gate": "residual"}, "leave gate as it is"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"gumbel_temperature": -1.0}, "gumbel_temperature must be positive"),
        ({"audio_eps": -1.0}, "audio_eps must not be negative"),
        ({"num_heads": 7}, "num_heads divide width 16"),
        ({"depth": 0}, "must be at least 1"),
        ({"stochastic_depth": 1.0}, "stochastic_depth must be in"),
        ({"ogl_alpha": 1.5}, "ogl_alpha must be in"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)
    replace(SMALL, source_vectors="pooled").require_mixing(replace(MIXING, distinct_classes=False))


def test_the_papers_network_is_the_default():
    config = AVGNConfig()
    assert (config.width, config.depth, config.resnet_width, config.visual_stages) == (512, 3, 64, 4)
    assert (config.source_vectors, config.assignment, config.view) == ("grouped_tokens", "soft", "wide")
    assert (config.visual_eps_or_default, config.audio_eps, config.temperature) == (1e-6, 1.0, 0.03)
    assert replace(config, assignment="hard").visual_eps_or_default == 1.0
