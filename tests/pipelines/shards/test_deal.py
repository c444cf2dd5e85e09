"""Which clip goes to which shard is fixed, and a shard's hash names what decides its bytes."""

import dataclasses
import hashlib

import pytest

from cocktail.types import UsageError
from pipelines.datasets.index import Box
from pipelines.shards.plan import frames_of, plan_shards
from tests.made.corpora.miniature_shards import CLIP_MB, SETTINGS, synthetic_index


def test_every_clip_of_a_split_is_dealt_once_to_shards_of_even_size():
    index = synthetic_index(103, split=["train"] * 90 + ["test"] * 13)
    plan = plan_shards(index, dataclasses.replace(SETTINGS, shard_mb=20 * CLIP_MB))
    assert plan["shard"].to_pylist() == ["test-00000-of-00001", *(f"train-{n:05d}-of-00005" for n in range(5))]
    clips = plan["clips"].to_pylist()
    assert [len(shard) for shard in clips] == [13, 18, 18, 18, 18, 18]
    assert sorted(clip["clip_id"] for shard in clips for clip in shard) == index["clip_id"].to_pylist()
    assert {clip["split"] for clip in clips[0]} == {"test"}
    first_numbers = [int(clip["clip_id"][4:]) for clip in clips[1]]
    assert max(first_numbers) > 60 > 30 > min(first_numbers)  # a random sample, not a run of neighbours


def test_the_deal_is_fixed_for_ever_and_follows_the_seed():
    dealt = [clip["clip_id"] for clip in plan_shards(synthetic_index(8), SETTINGS)["clips"].to_pylist()[0]]
    by_hand = sorted(
        (hashlib.sha256(f'[0,"clip{number:05d}"]'.encode()).hexdigest(), f"clip{number:05d}") for number in range(8)
    )
    assert dealt == [clip_id for _, clip_id in by_hand[:4]]
    other = plan_shards(synthetic_index(8), dataclasses.replace(SETTINGS, seed=1))
    assert [clip["clip_id"] for clip in other["clips"].to_pylist()[0]] != dealt


def test_the_plan_s_hash_names_what_decides_the_bytes_and_nothing_else():
    def hashes(index, **changes):
        plan = plan_shards(index, dataclasses.replace(SETTINGS, **changes))
        return plan["plan_hash"].to_pylist(), plan["deal_hash"].to_pylist()

    index = synthetic_index(12)
    reference = hashes(index)
    assert hashes(index, max_bad_share=0.5) == reference
    assert hashes(synthetic_index(12, media_path=["/elsewhere"] * 12)) == reference
    assert hashes(synthetic_index(12, recording=["another video"] * 12)) == reference
    for changes in ({"sample_rate_hz": 16000}, {"num_frames": 1}, {"seed": 1}, {"min_seconds": 2.0}):
        assert all(set(new).isdisjoint(old) for new, old in zip(hashes(index, **changes), reference, strict=True))
    relabelled = hashes(synthetic_index(12, labels=[("thunder",)] * 11 + [("rain",)]))
    assert set(relabelled[1]).isdisjoint(reference[1])
    mended = hashes(synthetic_index(12, problem=[None] * 11 + ["missing file"]))
    assert mended[1] == reference[1]
    assert len(set(mended[0]) - set(reference[0])) == 1


def test_clips_with_boxes_or_masks_keep_their_middle_frame_and_others_have_what_is_asked():
    box = Box(picture=0, label=None, x0=0.0, y0=0.0, x1=0.5, y1=0.5)
    index = synthetic_index(3, boxes=[(box,), None, None], mask_path=[None, "mask.png", None])
    settings = dataclasses.replace(SETTINGS, num_frames=4)
    (shard,) = plan_shards(index, dataclasses.replace(settings, shard_mb=100.0))["clips"].to_pylist()
    assert {clip["clip_id"]: frames_of(clip, settings) for clip in shard} == {
        "clip00000": 1,
        "clip00001": 1,
        "clip00002": 4,
    }
    for marked, num_frames in ((index, 0), (index.slice(0, 2), 4)):
        with pytest.raises(UsageError, match=rf"--frames is {num_frames}: 2 clips have boxes or masks"):
            plan_shards(marked, dataclasses.replace(SETTINGS, num_frames=num_frames))


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_rate_hz": 0},
        {"shard_mb": 0.0},
        {"num_tasks": 0},
        {"num_frames": -1},
        {"max_bad_share": 1.5},
        {"min_seconds": 700.0},
    ],
)
def test_settings_that_cannot_be_are_refused(changes):
    with pytest.raises(UsageError, match="expected"):
        dataclasses.replace(SETTINGS, **changes)
