"""The losses and maps of localizers with one map, each written out pair by pair."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.audio.mixing import superpose
from cocktail.types import Query
from tests.made.corpora.shapes_and_tones import scenes
from tests.made.models.small_avgn import C, pictures_of
from tests.made.models.small_localizers import LOCALIZERS

BATCH = scenes([[0], [2], [4], [1]])
ZERO = torch.zeros((), dtype=torch.float64)


def vectors(name: str) -> tuple[Any, Tensor, Tensor]:
    """A model in evaluation, its sounds [4, D] and its locations [4, P, D], in float64."""
    torch.manual_seed(0)
    model: Any = LOCALIZERS[name].build(C).double().eval()
    return model, model.sounds(superpose(BATCH))[:, 0], model.locations(pictures_of(BATCH), "wide")[:, 0]


def assert_map(model: Any, expected: list[Tensor]) -> None:
    """Likelihoods [P] of the locations of each picture by its own sound."""
    similarity = model.similarity(model.sounds(superpose(BATCH)), model.locations(pictures_of(BATCH), "wide"))
    torch.testing.assert_close(similarity[:, 0], torch.stack(expected))


def others(b: int) -> list[int]:
    return [m for m in range(4) if m != b]


def test_attention10k_gathers_what_a_sound_attends_to_and_compares_distances():
    model, sounds, locations = vectors("attention10k")
    attentions, total = [], ZERO
    for b in range(4):
        h = F.normalize(model.attending(sounds[b]), dim=0)
        cosines = torch.stack([F.normalize(v, dim=0) @ h for v in locations[b]])
        attentions.append(cosines.clamp(min=0).exp() / cosines.clamp(min=0).exp().sum())
        seen = model.representing(attentions[b] @ locations[b])
        near = (seen - sounds[b]).norm()
        for m in others(b):
            share = torch.stack([near, (seen - sounds[m]).norm()]).softmax(0)
            total = total + (share - share.new_tensor([0, 1])).square().mean() / 3
    assert_map(model, attentions)
    torch.testing.assert_close(model(BATCH)["total"], total / 4)


def test_ots_asks_whether_the_best_location_and_the_sound_are_of_one_clip():
    model, sounds, locations = vectors("ots")
    total = ZERO
    with torch.no_grad():
        model.offset.fill_(-0.3)
    for b in range(4):
        probability = [(10 * (locations[b] @ a).max() - 0.3).sigmoid() for a in sounds]
        total = total - probability[b].log() - sum((1 - probability[m]).log() for m in others(b)) / 3
    assert_map(model, [(10 * locations[b] @ sounds[b] - 0.3).sigmoid() for b in range(4)])
    torch.testing.assert_close(model(BATCH)["total"], total / 8)


def test_dmc_clusters_locations_and_compares_the_nearest_centre():
    model, sounds, locations = vectors("dmc")
    cells = model.audio_encoder(model.spectrum(superpose(BATCH)))
    torch.testing.assert_close(sounds, cells.mean(dim=1))
    maps, total = [], ZERO
    for b in range(4):
        centres, shares = locations[b][[0, 32]], ZERO
        for _ in range(4):
            apart = torch.stack([torch.stack([(v - o).norm() for v in locations[b]]) for o in centres])
            shares = (-30 * apart).softmax(0)
            centres = torch.stack([(share[:, None] * locations[b]).sum(0) / share.sum() for share in shares])
        nearest = [min((o - a).norm() for o in centres) for a in sounds]
        maps.append(shares[int((centres - sounds[b]).norm(dim=1).argmin())])
        for k in range(2):  # what is nearest decides
            torch.testing.assert_close(model.similarity(centres[k][None], locations[b][None])[0], shares[k])
        total = total + 0.5 * nearest[b] ** 2 + sum(0.5 * (5 - nearest[m]).clamp(min=0) ** 2 for m in others(b)) / 3
    assert_map(model, maps)
    torch.testing.assert_close(model(BATCH)["total"], total / 8)


def test_lvs_weighs_likely_and_unlikely_locations():
    model, sounds, locations = vectors("lvs")
    total = ZERO
    for b in range(4):
        logits = []
        for m in range(4):
            cosines = locations[b] @ sounds[m]
            likely = ((cosines - 0.65) / 0.03).sigmoid()
            logits.append((likely * cosines).sum() / likely.sum())
        own = locations[b] @ sounds[b]
        unlikely = 1 - ((own - 0.4) / 0.03).sigmoid()
        logits.append((unlikely * own).sum() / unlikely.sum())
        total = total - (torch.stack(logits) / 0.07).log_softmax(0)[b]
    assert_map(model, [locations[b] @ sounds[b] for b in range(4)])
    torch.testing.assert_close(model(BATCH)["total"], total / 4)


def test_slavc_multiplies_which_sound_and_which_location_and_learns_from_what_follows():
    model, sounds, locations = vectors("slavc")
    with torch.no_grad():  # apart from each other
        for parameter in model.momentum.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    behind_sounds = model.momentum.sounds(superpose(BATCH))[:, 0]
    behind_locations = model.momentum.locations(pictures_of(BATCH), "wide")[:, 0]
    D, total = 16, ZERO
    for v, a in ((locations, behind_sounds), (behind_locations, sounds)):
        for b in range(4):
            which = torch.stack([v[b, :, :D] @ a[m, :D] / 0.03 for m in range(4)]).softmax(dim=0)
            where = torch.stack([v[b, :, D:] @ a[m, D:] / 0.03 for m in range(4)]).softmax(dim=1)
            likelihood = (which * where).sum(dim=1)
            total = total - (likelihood[b] / likelihood.sum()).log()
    for half in (sounds[:, :D], sounds[:, D:], behind_locations[..., :D]):
        torch.testing.assert_close(half.norm(dim=-1), torch.ones_like(half[..., 0]))
    assert_map(
        model, [(locations[b, :, :D] @ sounds[b, :D] + locations[b, :, D:] @ sounds[b, D:]) / 2 for b in range(4)]
    )
    torch.testing.assert_close(model(BATCH)["total"], total / 4)


@pytest.mark.parametrize("momentum", [None, 0.5])
def test_the_momentum_encoders_of_slavc_start_alike_and_follow_by_a_share(momentum):
    torch.manual_seed(0)
    switches: Any = {} if momentum is None else {"momentum": momentum}
    model: Any = replace(LOCALIZERS["slavc"], **switches).build(C)
    share = 0.999 if momentum is None else momentum
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    behind = dict(model.momentum.named_parameters())
    assert trained.keys() == behind.keys() and behind
    before = {name: p.clone() for name, p in behind.items()}
    for name, p in trained.items():
        assert p.equal(behind[name])
        p.data.add_(1.0)
    model.follow()
    for name, p in behind.items():
        torch.testing.assert_close(p, share * before[name] + (1 - share) * trained[name])
    assert model.config.start().modules == ("momentum.visual_encoder.resnet", "visual_encoder.resnet")


@pytest.mark.parametrize(("maps_by", "others"), [("online", "momentum"), ("momentum", "online")])
def test_either_encoders_of_slavc_give_maps_and_the_others_stand_beside(maps_by, others):
    torch.manual_seed(0)
    switches: Any = {"maps_by": maps_by}
    model: Any = replace(LOCALIZERS["slavc"], **switches).build(C).eval()
    with torch.no_grad():
        for parameter in model.momentum.parameters():
            parameter.zero_()
    own = model.localize(superpose(BATCH), Query.of(BATCH))
    assert set(own.alternatives) == {f"{others} encoders"}
    assert not model.localize(superpose(BATCH), replace(Query.of(BATCH), alternatives=False)).alternatives
    readings = {maps_by: own, others: own.alternatives[f"{others} encoders"]}
    assert readings["momentum"].maps.eq(0).all() and readings["online"].maps.abs().max() > 0.1
