"""Rendering reads exactly what a row names, and drops what is damaged."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.media.clips import Clip
from cocktail.media.pictures import to_jpeg
from cocktail.types import NO_CLASS, ReadStatistics, UsageError
from pipelines.datasets.index import Box, IndexRow, make_index
from pipelines.mixtures.batches import read_mixtures, to_batch
from pipelines.mixtures.pictures import square_picture, truth_of_boxes
from pipelines.mixtures.render import render
from pipelines.plans.plan import plan_epoch, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.reader import ClipSource, read_frame
from tests.made.corpora.toy_shards import CLASSES, RATE, make_toy_shards, toy_audio, toy_clip, write_shards

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=2)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"), with_pictures=True)


def expected_audio(clip_id: str) -> np.ndarray:
    number = int(clip_id.removeprefix("clip"))
    return toy_audio(number, mostly_silent=number % 10 == 9 and number < 40)


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_rendered_sources_are_the_clips_samples(tmp_path, audio_format):
    manifest = make_toy_shards(tmp_path, audio_format=audio_format)
    mixing = replace(MIXING, num_sources=4, min_sources=2)
    plan = plan_epoch(usable_clips(manifest, mixing, "train"), seed=0, epoch=0).slice(3, 17)
    columns = render(plan, ClipSource.of(manifest), mixing)
    assert columns["sources"].shape == (17, 4, 2000)
    assert columns["sources"].dtype == np.int16
    assert len({len(clips) for clips in plan["clip_id"].to_pylist()}) == 3
    for b, row in enumerate(plan.to_pylist()):
        count = len(row["clip_id"])
        assert columns["mixture_id"][b] == row["mixture_id"]
        assert columns["present"][b].tolist() == [n < count for n in range(4)]
        assert columns["class_ids"][b].tolist() == row["class_id"] + [NO_CLASS] * (4 - count)
        np.testing.assert_array_equal(columns["gains"][b], np.float32(row["gain"] + [0] * (4 - count)))
        assert not columns["sources"][b, count:].any()
        for n, clip_id in enumerate(row["clip_id"]):
            start = row["start"][n]
            np.testing.assert_array_equal(columns["sources"][b, n], expected_audio(clip_id)[start : start + 2000])


@pytest.mark.parametrize("samples", [7000, 12345])
def test_a_short_clip_is_repeated(manifest, samples):
    longer = replace(MIXING, segment_samples=samples)
    plan = plan_epoch(usable_clips(manifest, longer, "train"), seed=0, epoch=0).slice(0, 1)
    audio = expected_audio(plan.to_pylist()[0]["clip_id"][0])
    sources = render(plan, ClipSource.of(manifest), longer)["sources"]
    np.testing.assert_array_equal(sources[0, 0], np.resize(audio, samples))


def test_what_was_read_is_counted(manifest):
    plan = plan_epoch(usable_clips(manifest, MIXING, "train"), seed=0, epoch=0).slice(0, 8)
    batch = to_batch(render(plan, ClipSource.of(manifest), MIXING))
    seconds = sum(len(checks) for row in plan["checks"].to_pylist() for checks in row)
    assert batch.read_statistics == ReadStatistics(bytes_read=seconds * 2 * RATE)


def test_a_mixture_of_a_damaged_clip_is_dropped_and_named_and_its_neighbours_are_as_before(tmp_path):
    manifest = make_toy_shards(tmp_path / "damaged")
    plan = plan_epoch(usable_clips(manifest, MIXING, "train"), seed=0, epoch=0)
    before = render(plan, ClipSource.of(manifest), MIXING)
    victim = manifest.table.to_pylist()[12]
    tar = Path(manifest.folder, victim["shard"])
    data = bytearray(tar.read_bytes())
    data[victim["audio_offset"] + 2 * 2500] ^= 4  # in its third second
    tar.write_bytes(data)
    touched = [
        any(
            clip == victim["clip_id"] and start // RATE <= 2 < -(-(start + 2000) // RATE)
            for clip, start in zip(row["clip_id"], row["start"], strict=True)
        )
        for row in plan.to_pylist()
    ]
    assert 0 < sum(touched) < len(plan)
    batch = to_batch(render(plan, ClipSource.of(manifest), MIXING))
    kept = ~np.array(touched)
    assert batch.mixture_ids == tuple(before["mixture_id"][kept])
    np.testing.assert_array_equal(batch.sources.numpy(), before["sources"][kept])
    assert len(batch.dropped) == sum(touched)
    assert [row in batch.dropped_rows for row in range(len(plan))] == touched
    first = before["mixture_id"][touched.index(True)]
    assert batch.dropped[0].startswith(f"mixture {first}: {tar}: clip {victim['clip_id']} is damaged: ")
    with pytest.raises(UsageError, match=f"mixture {first}: .*clip {victim['clip_id']} is damaged: .*second 2"):
        read_mixtures(plan, ClipSource.of(manifest), MIXING)


def test_a_shard_cut_short_drops_what_is_gone_and_one_that_is_gone_stops_the_run(tmp_path):
    manifest = make_toy_shards(tmp_path / "cut")
    plan = plan_epoch(usable_clips(manifest, MIXING, "train"), seed=0, epoch=0)
    path = Path(manifest.folder, "train-00002.tar")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    problems = set(render(plan, ClipSource.of(manifest), MIXING)["problem"].tolist()) - {""}
    assert problems
    assert all("train-00002.tar: clip clip02" in problem and "its sound ends early" in problem for problem in problems)
    path.unlink()
    with pytest.raises(UsageError, match=r"train-00002.tar is gone: run the sharding job"):
        render(plan, ClipSource.of(manifest), MIXING)


def test_training_pictures_are_squares_cut_where_the_plan_says(manifest):
    mixing = replace(MIXING, pictures_per_source=1, picture_side=16, picture_margin=1.25)
    plan = plan_epoch(usable_clips(manifest, mixing, "train"), seed=0, epoch=0).slice(0, 6)
    batch = to_batch(render(plan, ClipSource.of(manifest), mixing))
    assert batch.pictures is not None
    assert batch.pictures.shape == (6, 2, 1, 16, 16, 3)
    assert batch.truth is None
    clips = {row["clip_id"]: row for row in manifest.table.to_pylist()}
    for b, row in enumerate(plan.to_pylist()):
        for n, clip_id in enumerate(row["clip_id"]):
            x, y, mirror = row["square"][n]
            stored = Image.open(io.BytesIO(read_frame(manifest, clips[clip_id], 0)))  # 32 x 24 pixels
            # The short side becomes int(1.25 x 16) = 20, so 16 of 20 is cut: 24 x 16 / 20 pixels of the picture.
            size = 24 * 16 / 20
            left, top = x * (32 - size), y * (24 - size)
            cut = np.asarray(
                stored.resize((16, 16), Image.Resampling.BICUBIC, box=(left, top, left + size, top + size))
            )
            np.testing.assert_array_equal(batch.pictures[b, n, 0].numpy(), cut[:, ::-1] if mirror < 0.5 else cut)
    squares = np.array(plan["square"].to_pylist()).reshape(-1, 3)
    assert len(np.unique(squares)) == squares.size


def test_test_pictures_are_whole_and_come_with_their_masks(manifest):
    mixing = replace(MIXING, num_sources=1, pictures_per_source=1, picture_side=24)
    plan = plan_test(usable_clips(manifest, mixing, "test"), Evaluation(num_mixtures=None))
    batch = read_mixtures(plan, ClipSource.of(manifest), mixing)
    assert batch.pictures is not None
    assert batch.truth is not None
    assert batch.has_truth is not None
    assert batch.has_truth.all()
    # The toy's masks are where its pictures, noise, were bright in red before they became JPEGs.
    pixels = np.random.default_rng(40).integers(0, 255, (24, 32, 3), np.uint8)
    mask = Image.fromarray(((pixels[..., 0] > 127) * 255).astype(np.uint8)).resize((24, 24), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(batch.truth[0, 0].numpy(), np.asarray(mask) > 0)
    whole = square_picture(read_frame(manifest, manifest.table.to_pylist()[0], 0), 24)
    assert manifest.table["clip_id"][0].as_py() == plan["clip_id"][0].as_py()[0]
    np.testing.assert_array_equal(batch.pictures[0, 0, 0].numpy(), whole)


def picture(shade: int) -> bytes:
    return to_jpeg(Image.new("RGB", (40, 30), (shade, shade, shade)), 30)


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    """Clips of 12 s with a picture a second, second s of shade 20 s; boxes in the pictures of seconds 5 and 6."""
    samples = []
    for number, label in enumerate(("bell", "drum")):
        boxes = (
            Box(5, label, 0.25, 0.5, 0.75, 1.0),
            Box(5, None, 0.0, 0.0, 0.1, 0.1),
            Box(5, "harp", 0.9, 0.0, 1.0, 0.1),
            Box(6, label, 0.0, 0.0, 1.0, 1.0),
        )
        row = IndexRow(
            clip_id=label,
            recording=label,
            media_path="",
            labels=(label,),
            split="test",
            nominal_seconds=12,
            boxes=boxes,
        )
        audio = np.random.default_rng(number).integers(-9000, 9000, 12 * RATE).astype("<i2")
        clip = Clip(
            audio=audio,
            pictures=tuple(picture(20 * second) for second in range(12)),
            picture_seconds=tuple(float(second) for second in range(12)),
            duration_seconds=12,
            source_sha256="",
        )
        samples.append((make_index([row], CLASSES).to_pylist()[0], clip))
    return write_shards(tmp_path_factory.mktemp("boxed"), {"test-00000": samples}, CLASSES)


def test_the_picture_is_the_one_nearest_to_the_middle_of_the_crop_and_boxes_are_its_own(boxed):
    # A crop of 3 s of 12 s from the middle is from 4.5 to 7.5 s: its middle is second 6; of 5 s, from 3.5 to 8.5.
    mixing = replace(MIXING, pictures_per_source=1, picture_side=20, segment_samples=3000)
    plan = plan_test(usable_clips(boxed, mixing, "test"), Evaluation(num_mixtures=1))
    assert plan["picture"].to_pylist() == [[[6], [6]]]
    batch = read_mixtures(plan, ClipSource.of(boxed), mixing)
    assert batch.truth is not None
    assert batch.truth.all()
    boxes = [box for box in boxed.table["boxes"].to_pylist()[0] if box["picture"] == 5]
    truth = truth_of_boxes(boxes, [CLASSES.index("bell")], 20)
    assert truth is not None
    expected = np.zeros((20, 20), bool)
    expected[10:20, 5:15] = True  # int(20 x) to int(20 x) - 1
    expected[:2, :2] = True  # a box of nobody's class counts for all, the harp's does not
    np.testing.assert_array_equal(truth, expected)
    assert truth_of_boxes(boxes[2:], [CLASSES.index("bell")], 20) is None


def test_several_pictures_are_spread_over_the_crop(boxed):
    mixing = replace(MIXING, pictures_per_source=3, picture_side=8, segment_samples=6000)
    pool = usable_clips(boxed, mixing, "test")
    plan = plan_test(pool, Evaluation(num_mixtures=1))
    assert plan["start"].to_pylist() == [[3000, 3000]]
    # The middles of the thirds of 3 to 9 s.
    assert plan["picture"].to_pylist() == [[[4, 6, 8], [4, 6, 8]]]
    batch = read_mixtures(plan, ClipSource.of(boxed), mixing)
    assert batch.pictures is not None
    assert batch.truth is None
    np.testing.assert_allclose(batch.pictures[0, 0].float().mean(dim=(1, 2, 3)), [80, 120, 160], atol=2)
    for row in plan_epoch(pool, seed=0, epoch=0).to_pylist():
        for start, pictures in zip(row["start"], row["picture"], strict=True):
            for part, second in enumerate(pictures):
                assert start / RATE + 2 * part - 0.5 <= second <= start / RATE + 2 * part + 2.5


def test_clips_without_a_picture_are_left_out(tmp_path):
    manifest = make_toy_shards(tmp_path)
    with pytest.raises(UsageError, match="left out 40 without a picture"):
        usable_clips(manifest, replace(MIXING, pictures_per_source=1), "train")


def test_views_are_part_of_what_a_mixture_is(manifest):
    one = plan_epoch(usable_clips(manifest, replace(MIXING, pictures_per_source=1), "train"), seed=0, epoch=0)
    none = plan_epoch(usable_clips(manifest, MIXING, "train"), seed=0, epoch=0)
    assert one["clip_id"].equals(none["clip_id"])
    assert not set(one["mixture_id"].to_pylist()) & set(none["mixture_id"].to_pylist())


def test_silent_clips_do_not_trouble_anyone(tmp_path):
    silent = toy_clip(np.zeros(5 * RATE, "<i2"))
    rows = [
        IndexRow(clip_id=name, recording=name, media_path="", labels=(label,), split="train", nominal_seconds=5)
        for name, label in zip(("c0", "c1", "c2"), CLASSES, strict=False)
    ]
    samples = [
        (make_index([row], CLASSES).to_pylist()[0], silent if n == 2 else toy_clip(toy_audio(n)))
        for n, row in enumerate(rows)
    ]
    pool = usable_clips(write_shards(tmp_path, {"train-00000": samples}, CLASSES), MIXING, "train")
    assert pool.in_words() == "train: 2 clips of 2 classes; left out 1 silent"
