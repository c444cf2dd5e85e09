"""Pictures cut to boxes of their sources: drawn by nobody, said by the shards, and a part of the mixture's id."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.models.sound_of_pixels import SMALL_SOUND_OF_PIXELS
from cocktail.tasks.localization.task import Localizing
from cocktail.types import UsageError
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.pictures import WHOLE as WHOLE_PICTURE
from pipelines.mixtures.pictures import square_picture
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.evaluation import has_truth, planned_test
from pipelines.plans.frozen_list import read_test_list, write_test_list
from pipelines.plans.plan import mixtures_in_words, plan_epoch, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.reader import ClipSource, read_frame
from tests.made.corpora.toy_shards import CLASSES, RATE, toy_audio, toy_clip, toy_row, write_shards

WHOLE = Mixing(sample_rate_hz=RATE, segment_samples=2000, pictures_per_source=1, picture_side=8)
CUT = replace(WHOLE, picture_part="box")


def box(x0: float, x1: float, class_id: int | None, y1: float = 1.0) -> dict:
    return {"picture": 0, "class_id": class_id, "x0": x0, "y0": 0.25, "x1": x1, "y1": y1}


def boxes_of(number: int, class_id: int) -> list[dict] | None:
    """By the clip's number: nobody said; none; of another class; two of its own and a larger one of another; of no
    named class, beyond the edge; inside-out."""
    other = (class_id + 1) % len(CLASSES)
    return [
        None,
        [],
        [box(0, 1, other)],
        [box(0.5, 0.75, class_id), box(0.25, 0.75, class_id), box(0, 1, other)],
        [box(-0.5, 0.5, None, y1=1.5)],
        [box(0.75, 0.25, class_id)],
    ][number % 6]


SHOWN = [WHOLE_PICTURE, WHOLE_PICTURE, WHOLE_PICTURE, (0.25, 0.25, 0.75, 1.0), (0.0, 0.25, 0.5, 1.0), WHOLE_PICTURE]
"""What is shown of each sixth clip's picture."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    clips = []
    for number in range(30):
        row = toy_row(number, "train" if number < 18 else "test", len(CLASSES))
        row["boxes"] = boxes_of(number, row["class_ids"][0])
        clips.append((row, toy_clip(toy_audio(number), number)))
    shards = {"train-00000": clips[:18], "test-00000": clips[18:]}
    return write_shards(tmp_path_factory.mktemp("boxed"), shards, CLASSES)


def epoch_of(manifest, mixing: Mixing) -> pa.Table:
    return plan_epoch(usable_clips(manifest, mixing, "train"), seed=3, epoch=1)


def test_parts_are_the_largest_boxes_of_the_sources_classes_and_change_ids_alone(manifest):
    whole, cut = epoch_of(manifest, WHOLE), epoch_of(manifest, CUT)
    assert cut.drop_columns(["mixture_id", "part"]).equals(whole.drop_columns(["mixture_id"]))
    assert not set(cut["mixture_id"].to_pylist()) & set(whole["mixture_id"].to_pylist())
    seen = set()
    for row in cut.to_pylist():
        for clip, part in zip(row["clip_id"], row["part"], strict=True):
            number = int(clip[4:]) % 6
            seen.add(number)
            assert part == list(SHOWN[number])
    assert seen == set(range(6))


def test_pictures_are_cut_to_their_parts_in_training_and_in_tests(manifest):
    rows = {row["clip_id"]: row for row in manifest.table.to_pylist()}

    def picture_of(clip: str) -> bytes:
        return read_frame(manifest, rows[clip], 0)

    pool = usable_clips(manifest, CUT, "test")
    plan = plan_test(pool, Evaluation(num_mixtures=20))
    batch = read_mixtures(plan, ClipSource.of(manifest), CUT)
    assert batch.pictures is not None
    for b, clips in enumerate(plan["clip_id"].to_pylist()):
        for n, clip in enumerate(clips):
            picture = Image.open(io.BytesIO(picture_of(clip))).convert("RGB")
            x0, y0, x1, y1 = SHOWN[int(clip[4:]) % 6]
            of_pixels = (x0 * picture.width, y0 * picture.height, x1 * picture.width, y1 * picture.height)
            expected = picture.resize((8, 8), Image.Resampling.BICUBIC, box=of_pixels)
            assert np.array_equal(batch.pictures[b, n, 0].numpy(), np.asarray(expected))
    plan = epoch_of(manifest, CUT)
    batch = read_mixtures(plan, ClipSource.of(manifest), CUT)
    assert batch.pictures is not None
    for b, row in enumerate(plan.to_pylist()):
        for n, clip in enumerate(row["clip_id"]):
            square, part = tuple(row["square"][n]), SHOWN[int(clip[4:]) % 6]
            expected = square_picture(picture_of(clip), 8, CUT.picture_margin, square, part)
            assert np.array_equal(batch.pictures[b, n, 0].numpy(), expected)
            if part != WHOLE_PICTURE:
                assert not np.array_equal(expected, square_picture(picture_of(clip), 8, CUT.picture_margin, square))


def test_both_executors_cut_alike(manifest, local_ray):
    def pictures(executor) -> list:
        stream = MixtureStream(
            folder=manifest.folder, mixing=CUT, split="train", seed=5, batch_size=6, executor=executor
        )
        return [batch.pictures for batch in stream.batches(epoch=0, first=0, rank=0, world_size=1)]

    inline, by_ray = pictures("inline"), pictures("ray")
    assert len(inline) == 3 and all(one.equal(other) for one, other in zip(inline, by_ray, strict=True))


def test_nothing_is_localized_in_pictures_that_are_cut(manifest):
    plans = [planned_test(manifest, mixing, Evaluation(num_mixtures=8)) for mixing in (WHOLE, CUT)]
    assert [has_truth(plan) for plan in plans] == [True, False]
    model, evaluation = SMALL_SOUND_OF_PIXELS.build(len(CLASSES)), Evaluation(num_mixtures=8)
    tasks = [Localizing.of(model, evaluation, mixing, several_numbers=False) for mixing in (WHOLE, CUT)]
    assert tasks[0] is not None and tasks[1] is None


def test_a_frozen_list_says_that_its_pictures_are_cut(manifest, tmp_path):
    pool = usable_clips(manifest, CUT, "test")
    plan = plan_test(pool, Evaluation(num_mixtures=8))
    location = str(tmp_path / "list.parquet")
    write_test_list(location, plan, pool)
    assert read_test_list(location, pool).equals(plan)
    with pytest.raises(UsageError, match=r"pictures_cut True \(here False\).*cut ones with --mixing.picture-part box"):
        read_test_list(location, usable_clips(manifest, WHOLE, "test"))


def test_how_many_clips_have_boxes_is_said_and_none_are_refused(manifest, tmp_path):
    text = "; pictures cut to boxes, of 6 clips, and whole without one"
    assert mixtures_in_words(usable_clips(manifest, CUT, "train")).endswith(text)
    assert "boxes" not in mixtures_in_words(usable_clips(manifest, WHOLE, "train"))
    clips = [(toy_row(number, "train", len(CLASSES)), toy_clip(toy_audio(number), number)) for number in range(6)]
    without = write_shards(tmp_path, {"train-00000": clips}, CLASSES)
    with pytest.raises(UsageError, match="has no box of a clip's own class to cut pictures to"):
        mixtures_in_words(usable_clips(without, CUT, "train"))


def test_what_has_no_box_of_its_own_is_refused(manifest):
    with pytest.raises(UsageError, match="picture_part box cuts the pictures of single sources"):
        Mixing(picture_part="box")
    with pytest.raises(UsageError, match="frames-from lends whole pictures"):
        planned_test(manifest, CUT, Evaluation(num_mixtures=4, frames_from="train"))
    of_one = replace(CUT, num_sources=1)
    with pytest.raises(UsageError, match="single sources with a whole picture each"):
        planned_test(manifest, of_one, Evaluation(num_mixtures=4, negatives=("silent",)))
