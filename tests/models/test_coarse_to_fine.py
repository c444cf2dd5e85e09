"""CoarsetoFine's losses of both stages, written out, and its Grad-CAM."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from cocktail.audio.mixing import superpose
from cocktail.types import Query
from tests.made.models.small_avgn import C, pictures_of
from tests.made.models.small_class_maps import BATCH, build


def test_the_closed_form_is_grad_cam():
    """Its definition: the gradient of a class's score by each feature, the mean over places, weighs the features."""
    model = build("coarse").eval()
    locations = model.locations(pictures_of(BATCH), "wide")[:, 0].detach().requires_grad_()
    scores = model.visual_head(locations.mean(dim=1))
    for class_id in range(C):
        (gradient,) = torch.autograd.grad(scores[:, class_id].sum(), locations, retain_graph=True)
        expected = torch.einsum("bpd,bd->bp", locations, gradient.mean(dim=1)).relu()
        ours = model.grad_cam(model.visual_head, locations[:, None], torch.full((3, 1), class_id))[:, 0]
        torch.testing.assert_close(ours / locations.shape[1], expected)


def test_classes_are_heard_and_seen_and_clips_belong_together():
    model = build("coarse").eval()
    losses = model(BATCH)
    assert set(losses) == {"presence", "visual_presence", "correspondence", "total"}
    sounds = model.sounds(superpose(BATCH)).mean(dim=1)
    pictures = model.locations(pictures_of(BATCH), "wide")[:, 0].mean(dim=1)
    there = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 1, 0, 0], [1, 0, 0, 0, 1]])
    for name, logits in (("presence", model.audio_head(sounds)), ("visual_presence", model.visual_head(pictures))):
        torch.testing.assert_close(losses[name], F.binary_cross_entropy(logits.sigmoid(), there))
    both, total = model.correspondence, torch.zeros(())
    # Two layers on both side by side.
    first = torch.cat([both.of_pictures.weight, both.of_sounds.weight], dim=1)
    for b in range(3):
        sides = torch.stack([torch.cat([pictures[b], sound]) for sound in sounds])
        logits = both.last(F.relu(sides @ first.T + both.of_pictures.bias))[:, 0]
        others = [F.softplus(logits[m]) for m in range(3) if m != b]
        total = total + (F.softplus(-logits[b]) + torch.stack(others).mean()) / 2
    torch.testing.assert_close(losses["correspondence"], total / 3)


def test_what_grad_cam_picks_out_of_sound_and_picture_is_aligned_and_others_are_kept_apart():
    model = build("fine").eval()
    losses = model(BATCH)
    sounds, seen = model.sounds(superpose(BATCH)), model.locations(pictures_of(BATCH), "wide")[:, 0]
    heard, shown = [], []
    for b in range(3):
        for class_id in BATCH.class_ids[b]:
            for head, align, cells, vectors in (
                (model.audio_head, model.align_audio, sounds[b], heard),
                (model.visual_head, model.align_visual, seen[b], shown),
            ):
                weights = (cells @ head.weight[class_id]).relu() + 1e-6
                vectors.append(F.normalize(align((weights[:, None] * cells).sum(dim=0) / weights.sum()), dim=0))
    near = [(heard[i] - shown[i]).square().sum() for i in range(6)]
    far = [(1.4 - (heard[i] - shown[j]).norm()).relu() ** 2 for i in range(6) for j in range(6) if i != j]
    torch.testing.assert_close(losses["alignment"], torch.stack(near).mean() + torch.stack(far).mean())
    parts = [losses[name] for name in ("presence", "visual_presence", "correspondence", "alignment")]
    torch.testing.assert_close(losses["total"], torch.stack(parts).sum())


def test_maps_are_grad_cam_and_in_the_second_stage_where_a_location_is_like_what_is_heard():
    coarse, fine = build("coarse").eval(), build("fine").eval()
    query = Query.of(BATCH)
    first, second = (model.localize(superpose(BATCH), query).maps[..., 0, 0] for model in (coarse, fine))
    places = fine.locations(pictures_of(BATCH), "wide")[:, 0, 0]  # the corner, where nothing is interpolated
    cam = (fine.visual_head.weight[BATCH.class_ids] @ places[..., None])[..., 0].relu()
    torch.testing.assert_close(first, cam)
    heard = fine.of_classes_heard(fine.sounds(superpose(BATCH)), BATCH.class_ids)
    like = (heard @ F.normalize(fine.align_visual(places), dim=1)[..., None])[..., 0].relu()
    torch.testing.assert_close(second, cam * like)
    assert first.gt(0).any()


def test_presence_is_counted_by_ear_and_by_eye():
    model = build("coarse").eval()
    with torch.no_grad():
        model.audio_head.weight.zero_()
    counts = model.confusion(BATCH)
    assert set(counts) == {"presence", "visual_presence"} and model.confusion(None) == {}
    assert counts["presence"].sum(dim=0).tolist() == [0, 0, 6]  # of a half nobody is sure
    assert counts["visual_presence"][:, [0, 2]].sum().item() == 6
