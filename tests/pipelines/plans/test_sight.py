"""Which sources a mixture shows, and whose pictures: drawn by the plan, and a part of the mixture's id."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.config.mixing import Mixing
from cocktail.config.settings import part_of, require_kept
from cocktail.config.training import Training
from cocktail.models.sound_of_pixels import SMALL_SOUND_OF_PIXELS
from cocktail.types import UsageError
from pipelines.plans.evaluation import make_test_list, planned_test
from pipelines.plans.foreign_rows import require_of
from pipelines.plans.frozen_list import read_test_list, write_test_list
from pipelines.plans.plan import EpochPlan, plan_epoch, plan_test
from pipelines.plans.pool import usable_clips
from tests.made.corpora.toy_shards import RATE, make_toy_shards

MIXING = Mixing(
    sample_rate_hz=RATE,
    segment_samples=2000,
    num_sources=3,
    min_sources=2,
    pictures_per_source=1,
    picture_side=8,
    passes_per_epoch=20,
)

# Written down at commit 75453d4, before pictures could be withheld.
FIRST_OF_EPOCH = ["327a29d3a37409a6", "a45c2d5347682181", "ae13c502fe42bd8c"]
OF_TEST = ["bc70eda7d872c57c", "39e95f0ff7543c5b", "cf4a8a752bd5a7c1"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"), with_pictures=True)


def epoch_of(manifest, **changes) -> pa.Table:
    return plan_epoch(usable_clips(manifest, replace(MIXING, **changes), "train"), seed=3, epoch=1)


def test_where_all_are_shown_plans_are_what_they_were(manifest):
    rows = epoch_of(manifest)
    assert "seen" not in rows.column_names
    assert rows["mixture_id"].to_pylist()[:3] == FIRST_OF_EPOCH
    test = plan_test(usable_clips(manifest, MIXING, "test"), Evaluation(num_mixtures=3))
    assert test["mixture_id"].to_pylist() == OF_TEST


@pytest.mark.parametrize("shown", ["some", "all_but_one", "none", 0, 1, 2])
def test_withholding_changes_ids_and_nothing_else_of_a_plan(manifest, shown):
    whole, withheld = epoch_of(manifest), epoch_of(manifest, shown_sources=shown)
    assert withheld.drop_columns(["mixture_id", "seen"]).equals(whole.drop_columns(["mixture_id"]))
    ids = withheld["mixture_id"].to_pylist()
    assert not set(ids) & set(whole["mixture_id"].to_pylist()) and len(set(ids)) == len(ids)


def test_as_many_are_shown_as_asked_for_each_source_as_often(manifest):
    expected = {
        "some": {2: {1}, 3: {1, 2}},
        "all_but_one": {2: {1}, 3: {2}},
        "none": {2: {0}, 3: {0}},
        2: {2: {2}, 3: {2}},
    }
    for shown, allowed in expected.items():
        rows = epoch_of(manifest, shown_sources=shown)["seen"].to_pylist()
        by_count = {count: Counter(sum(row) for row in rows if len(row) == count) for count in (2, 3)}
        assert {count: set(numbers) for count, numbers in by_count.items()} == allowed
        if shown == "some":
            assert by_count[3][1] / sum(by_count[3].values()) == pytest.approx(0.5, abs=0.08)
            for count in (2, 3):
                share = np.mean([row for row in rows if len(row) == count], axis=0)
                assert share == pytest.approx([0.5] * count, abs=0.08)


def test_a_row_shows_the_same_sources_wherever_it_is_made(manifest):
    pool = usable_clips(manifest, replace(MIXING, shown_sources="some"), "train")
    whole = plan_epoch(pool, seed=3, epoch=1)
    some = np.array([0, 7, 41, 90])
    assert EpochPlan(pool=pool, seed=3, epoch=1).rows(some).equals(whole.take(pa.array(some)).combine_chunks())
    assert plan_epoch(pool, seed=4, epoch=1)["seen"] != whole["seen"]
    tests = [plan_test(usable_clips(manifest, pool.mixing, "test"), Evaluation(num_mixtures=n)) for n in (5, 12)]
    assert tests[0].equals(tests[1].slice(0, 5).combine_chunks())


def test_an_id_depends_on_who_is_shown_and_not_on_the_room_for_others(manifest):
    pair = replace(MIXING, num_sources=2, min_sources=2, shown_sources=1)
    alone = plan_test(usable_clips(manifest, pair, "test"), Evaluation(num_mixtures=8))
    roomy = Evaluation(num_mixtures=8, num_sources=(2, 3))
    among = plan_test(usable_clips(manifest, roomy.test_mixing(pair), "test"), roomy)
    of_pairs = among.filter(pa.array([len(row) == 2 for row in among["clip_id"].to_pylist()]))
    assert of_pairs["mixture_id"].to_pylist() == alone["mixture_id"].to_pylist()


def test_a_frozen_list_keeps_who_is_shown(manifest, tmp_path):
    mixing = replace(MIXING, shown_sources="some")
    pool = usable_clips(manifest, mixing, "test")
    plan = plan_test(pool, Evaluation(num_mixtures=12))
    location = str(tmp_path / "list.parquet")
    write_test_list(location, plan, pool)
    assert read_test_list(location, pool).equals(plan)
    with pytest.raises(UsageError, match=r"withheld_pictures True \(here False\).*with --evaluation.shown-sources"):
        read_test_list(location, usable_clips(manifest, MIXING, "test"))
    with pytest.raises(UsageError, match=r"shows 1 of the [23] sources of a mixture, and not 2: set --evaluation"):
        read_test_list(location, usable_clips(manifest, replace(MIXING, shown_sources=2), "test"))
    # The settings of a test say it as those of the mixtures do.
    asked = Evaluation(test_list=location, shown_sources="some")
    assert planned_test(manifest, asked.test_mixing(MIXING), asked).equals(plan)


def test_a_list_of_all_is_none_of_withheld_pictures(manifest, tmp_path):
    pool = usable_clips(manifest, MIXING, "test")
    location = str(tmp_path / "list.parquet")
    write_test_list(location, plan_test(pool, Evaluation(num_mixtures=4)), pool)
    with pytest.raises(UsageError, match=r"withheld_pictures False \(here True\)"):
        read_test_list(location, usable_clips(manifest, replace(MIXING, shown_sources="none"), "test"))


def test_lent_pictures_are_of_the_class_and_everything_that_sounds_stays(manifest):
    own, lent = (
        make_test_list(manifest, MIXING, Evaluation(num_mixtures=12, frames_from=split)) for split in (None, "train")
    )
    pictures = ["picture", "frame_offsets", "frame_sizes", "frame_checks"]
    changed = ["mixture_id", *pictures, "boxes", "mask_offset", "mask_bytes", "mask_check"]
    kept = [name for name in own.column_names if name not in changed]
    assert lent.select(kept).equals(own.select(kept))
    assert not set(own["mixture_id"].to_pylist()) & set(lent["mixture_id"].to_pylist())
    clips = {clip["clip_id"]: clip for clip in manifest.table.to_pylist()}
    lenders = set()
    for row in lent.to_pylist():
        for n, lender in enumerate(row["lender"]):
            clip = clips[lender]
            lenders.add(lender)
            assert clip["split"] == "train" and clip["class_ids"] == [row["class_id"][n]]
            assert (row["lender_shard"][n], row["frame_checks"][n]) == (clip["shard"], clip["frame_checks"])
    assert len(lenders) > 10  # of eight clips a class
    require_of(manifest, lent, "list")
    forged = lent.set_column(lent.column_names.index("lender"), "lender", lent["clip_id"])
    with pytest.raises(UsageError, match="names other bytes than"):
        require_of(manifest, forged, "list")


def test_pictures_are_lent_to_a_frozen_list_and_to_withheld_ones_as_well(manifest, tmp_path):
    mixing = replace(MIXING, shown_sources="some")
    drawn = Evaluation(num_mixtures=12, frames_from="train")
    pool = usable_clips(manifest, mixing, "test")
    location = str(tmp_path / "list.parquet")
    write_test_list(location, plan_test(pool, drawn), pool)
    read = planned_test(manifest, mixing, Evaluation(test_list=location, frames_from="train"))
    assert read.equals(planned_test(manifest, mixing, drawn)) and "seen" in read.column_names


def test_pictures_can_be_lent_only_where_a_class_has_some(manifest, tmp_path):
    fewer = make_toy_shards(tmp_path, num_shards=1, clips_per_shard=3, with_pictures=True)
    with pytest.raises(UsageError, match=r"no clip of the split train can lend its pictures to \d+ test sources"):
        planned_test(fewer, replace(MIXING, num_sources=2), Evaluation(num_mixtures=4, frames_from="train"))
    with pytest.raises(UsageError, match="frames-from lends whole pictures to sources that have some"):
        planned_test(manifest, replace(MIXING, pictures_per_source=0), Evaluation(num_mixtures=4, frames_from="train"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shown_sources": "some", "pictures_per_source": 0}, "withholds pictures, of which each source needs its own"),
        ({"shown_sources": "none", "arrangement": "whole"}, "withholds pictures"),
        ({"shown_sources": 3}, "from 0 to the 2 sources that each mixture has, not 3"),
        ({"shown_sources": "some", "min_sources": 1}, "mixtures need min-sources 2 or more"),
    ],
)
def test_what_cannot_be_withheld_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        replace(MIXING, **changes)


def test_a_model_that_needs_all_pictures_is_not_trained_without_some():
    mixing = Mixing(pictures_per_source=1, shown_sources="some")
    with pytest.raises(UsageError, match=r"withhold those of the test by evaluation\.shown_sources"):
        Experiment(name="x", model=SMALL_SOUND_OF_PIXELS, mixing=mixing, training=Training(batch_size=8))


@pytest.mark.parametrize("shown", ["all", "some", 1])
def test_a_checkpoint_keeps_the_setting_and_one_from_before_shows_all(shown):
    require_kept(replace(MIXING, shown_sources=shown), "mixing.")
    assert part_of(Mixing, {"mixing.num_sources": 2}, "mixing.").shown_sources == "all"
    assert part_of(Evaluation, {}, "evaluation.").shown_sources is None
