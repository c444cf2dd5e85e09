"""What is said of where a source is, nothing, nothing left, or an area, can be told apart in batches."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.media.pictures import encode_mask, to_jpeg
from cocktail.types import NO_CLASS, UsageError
from pipelines.datasets.index import Box, IndexRow, make_index
from pipelines.mixtures.batches import read_mixtures, to_batch
from pipelines.mixtures.pictures import truth_of_boxes
from pipelines.mixtures.render import render
from pipelines.plans.plan import plan_epoch, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.plans.rows import with_class_ids
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_shards import CLASSES, RATE, toy_audio, toy_clip, write_shards

SIDE = 20
SINGLE = Mixing(num_sources=1, sample_rate_hz=RATE, segment_samples=2000, pictures_per_source=1, picture_side=SIDE)
ALL = Evaluation(num_mixtures=None)
GREY = to_jpeg(Image.new("RGB", (40, 30), (90, 90, 90)), 30)
SMALL = np.zeros((300, 400), bool)
SMALL[150, 201] = True
BOXES = {
    "nobody": None,
    "nothing": (),
    "other class": (Box(0, "drum", 0, 0, 1, 1),),
    "other picture": (Box(1, "bell", 0, 0, 1, 1),),
    "right of it": (Box(0, "bell", 1.25, 0, 1.5, 1),),
    "left of it": (Box(0, "bell", -0.5, 0, -0.25, 1),),
    "inside-out": (Box(0, "bell", 0.75, 0.25, 0.25, 0.75),),
    "no area": (Box(0, "bell", 0.25, 0.5, 0.75, 0.5),),
    "within a pixel": (Box(0, "bell", 0.51, 0.51, 0.54, 0.54),),
    "far over the edge": (Box(0, "bell", -2.9e16, 0.5, 0.5, 1e300),),
    "bad beside good": (Box(0, "bell", -0.5, 0, -0.25, 1), Box(0, "bell", 0.0, 0.0, 0.25, 0.25)),
}
MASKS = {
    "mask of nothing": np.zeros((30, 40), bool),
    "mask of one pixel in many": SMALL,
    "mask of the left": np.arange(40) < np.full((30, 1), 20),
}
NOBODY_SAID = {"nobody", "other class", "other picture"}
SHARES = {"far over the edge": 0.25, "bad beside good": 0.0625, "mask of the left": 0.5}
"""Of the picture's pixels; of all others none."""


def data_set(folder, pictures: dict[str, bytes], masks: dict[str, bytes], split: str = "test"):
    """A clip of a bell each, in a shard of its own."""
    shards = {}
    for number, (clip_id, jpeg) in enumerate(pictures.items()):
        row = IndexRow(
            clip_id=clip_id,
            recording=clip_id,
            media_path="",
            labels=("bell",),
            split=split,
            nominal_seconds=5,
            boxes=BOXES.get(clip_id),
        )
        clip = replace(toy_clip(toy_audio(number)), pictures=(jpeg,), picture_seconds=(2.5,), mask=masks.get(clip_id))
        shards[f"{split}-{number:05d}"] = [(make_index([row], CLASSES).to_pylist()[0], clip)]
    return write_shards(folder, shards, CLASSES)


def test_every_kind_of_bad_truth_is_told_from_none_and_from_good(tmp_path):
    masks = {name: encode_mask(mask) for name, mask in MASKS.items()}
    manifest = data_set(tmp_path, dict.fromkeys([*BOXES, *MASKS], GREY), masks)
    plan = plan_test(usable_clips(manifest, SINGLE, "test"), ALL)
    columns = render(plan, ClipSource.of(manifest), SINGLE)
    names = [clips[0] for clips in plan["clip_id"].to_pylist()]
    assert sorted(names) == sorted([*BOXES, *MASKS])
    said = dict(zip(names, columns["has_truth"][:, 0].tolist(), strict=True))
    assert {name for name in names if not said[name]} == NOBODY_SAID
    shares = dict(zip(names, columns["truth"][:, 0].mean(axis=(1, 2)).tolist(), strict=True))
    assert {name: share for name, share in shares.items() if share} == SHARES
    batch = to_batch(columns)
    assert batch.truth is not None
    assert batch.has_truth is not None
    empty = batch.has_truth & ~batch.truth.flatten(2).any(dim=2)
    assert (int(batch.has_truth.sum()), int(empty.sum()), int((~batch.has_truth).sum())) == (11, 8, 3)
    assert not batch.dropped


@pytest.mark.parametrize("kind", sorted(BOXES.keys() - NOBODY_SAID))
def test_a_box_covers_the_pixels_that_it_has_in_the_picture(kind):
    boxes = [
        {"picture": box.picture, "class_id": 0, **dict(zip(("x0", "y0", "x1", "y1"), box[2:], strict=True))}
        for box in BOXES[kind] or ()
    ]
    truth = truth_of_boxes(boxes, [0], SIDE)
    assert truth is not None
    expected = np.zeros((SIDE, SIDE), bool)
    if kind == "far over the edge":
        expected[10:, :10] = True
    if kind == "bad beside good":
        expected[:5, :5] = True
    np.testing.assert_array_equal(truth, expected)


def cut_short(jpeg: bytes) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()[: len(jpeg)]


@pytest.mark.parametrize(
    ("jpeg", "told"), [(b"no picture", "no known format"), (cut_short(GREY), "truncated"), (b"", "no known format")]
)
def test_a_mixture_whose_frame_cannot_be_decoded_is_dropped_by_name_and_its_neighbours_stay(tmp_path, jpeg, told):
    manifest = data_set(tmp_path, {"one": GREY, "two": GREY, "bad": jpeg}, {}, split="train")
    mixing = replace(SINGLE, passes_per_epoch=2, window_shards=9)
    plan = plan_epoch(usable_clips(manifest, mixing, "train"), seed=0, epoch=0)
    batch = to_batch(render(plan, ClipSource.of(manifest), mixing))
    names = dict(zip(plan["mixture_id"].to_pylist(), (clips[0] for clips in plan["clip_id"].to_pylist()), strict=True))
    assert [names[mixture] for mixture in batch.mixture_ids] == [name for name in names.values() if name != "bad"]
    assert len(batch.dropped) == 2
    for line, mixture in zip(batch.dropped, [m for m, clip in names.items() if clip == "bad"], strict=True):
        assert line.startswith(f"mixture {mixture}: {manifest.folder}/train-00002.tar: clip bad")
        assert "picture 0 cannot be decoded" in line
        assert told in line
    with pytest.raises(UsageError, match=r"clip bad .*picture 0 cannot be decoded"):
        read_mixtures(plan, ClipSource.of(manifest), mixing)


def test_a_mask_that_cannot_be_decoded_drops_its_mixture(tmp_path):
    manifest = data_set(tmp_path, {"bad": GREY}, {"bad": b"no png"})
    plan = plan_test(usable_clips(manifest, SINGLE, "test"), ALL)
    assert "its mask cannot be decoded: no known format" in str(
        render(plan, ClipSource.of(manifest), SINGLE)["problem"]
    )


def test_boxes_follow_their_classes_into_the_ids_of_a_model(tmp_path):
    names = {"far over the edge": GREY, "other class": GREY, "nobody": GREY}
    manifest = data_set(tmp_path, names, {})
    plan = plan_test(usable_clips(manifest, SINGLE, "test"), ALL)
    # The model knows drums as 0 and bells as 7, and nothing else.
    own = np.array([7, 0, NO_CLASS, NO_CLASS, NO_CLASS])
    mapped = with_class_ids(plan, own, 8)
    before, after = (render(rows, ClipSource.of(manifest), SINGLE) for rows in (plan, mapped))
    assert after["class_ids"].tolist() == [[7]] * 3
    assert before["has_truth"].tolist() == after["has_truth"].tolist() == [[True], [False], [False]]
    np.testing.assert_array_equal(before["truth"], after["truth"])
    # Boxes of what it does not know are of none of its classes, nor of sources of no class.
    strangers = with_class_ids(plan, np.array([0, NO_CLASS, NO_CLASS, NO_CLASS, NO_CLASS]), 1)
    (box,) = strangers["boxes"].to_pylist()[2][0]
    assert box["class_id"] not in (None, NO_CLASS, 0)
