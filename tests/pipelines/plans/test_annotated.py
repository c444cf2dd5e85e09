"""Each picture that somebody marked is a test item: the sound around it, and that very picture."""

from dataclasses import replace

import numpy as np
import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.mixtures.batches import read_mixtures
from pipelines.plans.plan import mixtures_in_words, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_duets import make_toy_duets
from tests.made.corpora.toy_shards import RATE, make_toy_shards

SINGLE = Mixing(
    num_sources=1, sample_rate_hz=RATE, segment_samples=3000, pictures_per_source=1, picture_side=20, window_shards=1
)
ANNOTATED = Evaluation(num_mixtures=None, crop="annotated")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_duets(tmp_path_factory.mktemp("duets"))


def test_the_sound_around_each_marked_picture_is_an_item_in_order_of_time(manifest):
    pool = usable_clips(manifest, SINGLE, "test")
    plan = plan_test(pool, ANNOTATED)
    # Of solo0, pictures 0, 3 and 11 are marked, the last amid silence; solo1 has no boxes.
    assert plan["clip_id"].to_pylist() == [["solo0"], ["solo0"]]
    assert plan["picture"].to_pylist() == [[[0]], [[3]]]
    # At the clip's start there is no second and a half before the picture.
    assert plan["start"].to_pylist() == [[0], [1500]]
    told = (
        "; 2 annotated pictures of 1 clips, 1 clips without an annotated picture (as solo1), "
        "1 annotated pictures amid silence (as solo0)"
    )
    assert mixtures_in_words(pool, ANNOTATED).endswith(told)
    batch = read_mixtures(plan, ClipSource.of(manifest), SINGLE)
    assert batch.pictures is not None
    assert batch.truth is not None
    assert [round(float(picture.float().mean())) for picture in batch.pictures] == [0, 60]
    assert [float(truth.float().mean()) for truth in batch.truth] == [0.5, 1.0]


def test_a_crop_ends_where_its_clip_ends(manifest):
    # The picture at 11 s in a crop of 8 s, which sounds in its first four.
    plan = plan_test(usable_clips(manifest, replace(SINGLE, segment_samples=8000), "test"), ANNOTATED)
    assert [(row["start"], row["picture"]) for row in plan.to_pylist()] == [
        ([0], [[0]]),
        ([0], [[3]]),
        ([4000], [[11]]),
    ]


def test_a_picture_with_a_mask_counts(tmp_path):
    manifest = make_toy_shards(tmp_path, num_shards=1, with_pictures=True)
    pool = usable_clips(manifest, replace(SINGLE, segment_samples=2000), "test")
    plan = plan_test(pool, ANNOTATED)
    assert plan["clip_id"].to_pylist() == [[f"clip{n:03d}"] for n in range(10, 16)]
    assert set(plan["start"].to_pylist()[0]) == {1500}  # the picture is at 2.5 s
    assert plan.equals(plan_test(pool, Evaluation(num_mixtures=None)))


def test_fewer_items_are_spread_over_all_pictures(tmp_path):
    manifest = make_toy_shards(tmp_path, num_shards=1, with_pictures=True)
    pool = usable_clips(manifest, replace(SINGLE, segment_samples=2000), "test")
    plan = plan_test(pool, replace(ANNOTATED, num_mixtures=3))
    assert plan["clip_id"].to_pylist() == [["clip010"], ["clip012"], ["clip014"]]
    assert len(plan_test(pool, replace(ANNOTATED, num_mixtures=100))) == 6


def test_what_has_no_marked_picture_is_refused(manifest):
    two = replace(SINGLE, num_sources=2)
    with pytest.raises(UsageError, match=r"of single sources or whole clips, not of mixtures of 2: add --evaluation"):
        plan_test(usable_clips(manifest, two, "test"), ANNOTATED)
    with pytest.raises(UsageError, match=r"set --mixing.pictures-per-source to 1, not 2"):
        plan_test(usable_clips(manifest, replace(SINGLE, pictures_per_source=2), "test"), ANNOTATED)
    unmarked = replace(manifest, table=manifest.table.filter(np.array(manifest.table["clip_id"]) == "solo1"))
    with pytest.raises(UsageError, match=r"gives no test mixture .*0 annotated pictures of 0 clips, 1 clips without"):
        plan_test(usable_clips(unmarked, SINGLE, "test"), ANNOTATED)
    with pytest.raises(UsageError, match="leave out official pairs and whole-groups"):
        replace(ANNOTATED, pairs="official")
