"""One test of several numbers of sources: a list for each number, one after the other."""

from dataclasses import replace

import pyarrow as pa
import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.replay import find_mixtures
from pipelines.plans.frozen_list import read_test_list, write_test_list
from pipelines.plans.plan import mixtures_in_words, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_duets import make_toy_duets
from tests.made.corpora.toy_shards import RATE, make_toy_shards

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, pictures_per_source=1, picture_side=8)
NUMBERS = Evaluation(num_sources=(1, 2, 3), num_mixtures=8)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"), with_pictures=True)


def pool_of(manifest, evaluation: Evaluation, mixing: Mixing = MIXING):
    return usable_clips(manifest, evaluation.test_mixing(mixing), evaluation.split)


def test_each_number_has_the_list_that_it_has_alone(manifest):
    plan = plan_test(pool_of(manifest, NUMBERS), NUMBERS)
    alone = [
        plan_test(usable_clips(manifest, replace(MIXING, num_sources=number), "test"), Evaluation(num_mixtures=8))
        for number in (1, 2, 3)
    ]
    # Six test clips are six single sources; of drawn mixtures there are as many as wanted.
    assert [len(each) for each in alone] == [6, 8, 8]
    assert plan.equals(pa.concat_tables(alone))
    order = replace(NUMBERS, num_sources=(3, 1))
    assert plan_test(pool_of(manifest, order), order).equals(pa.concat_tables([alone[2], alone[0]]))


def test_all_are_read_by_one_mixing(manifest):
    mixing = NUMBERS.test_mixing(MIXING)
    assert (mixing.num_sources, mixing.min_sources) == (3, 1)
    assert Evaluation().test_mixing(MIXING) is MIXING
    plan = plan_test(pool_of(manifest, NUMBERS), NUMBERS)
    batch = read_mixtures(plan, ClipSource.of(manifest), mixing)
    assert batch.present.sum(dim=1).tolist() == [1] * 6 + [2] * 8 + [3] * 8
    assert batch.mixture_ids == tuple(plan["mixture_id"].to_pylist())


def test_too_few_drawn_mixtures_of_any_number_are_an_error_that_counts_them(manifest):
    # Six clips of the classes 0, 1, 2, 3, 4, 0 make 14 pairs of different classes.
    evaluation = replace(NUMBERS, num_mixtures=15)
    with pytest.raises(UsageError, match=r"gives only 14 different mixtures \(test: 6 clips"):
        plan_test(pool_of(manifest, evaluation), evaluation)


def test_official_pairs_are_the_list_of_two_and_single_sources_that_of_one(manifest):
    partner_of = {"clip040": "clip041", "clip043": "clip042"}
    partners = pa.array([partner_of.get(clip) for clip in manifest.table["clip_id"].to_pylist()], pa.string())
    place = manifest.table.column_names.index("partner")
    paired = replace(manifest, table=manifest.table.set_column(place, "partner", partners))
    evaluation = Evaluation(num_sources=(1, 2), pairs="official", num_mixtures=None)
    pool = pool_of(paired, evaluation)
    clips = plan_test(pool, evaluation)["clip_id"].to_pylist()
    assert clips == [[f"clip{n:03d}"] for n in range(40, 46)] + [["clip040", "clip041"], ["clip043", "clip042"]]
    assert mixtures_in_words(pool, evaluation) == (
        "test: 6 clips of 5 classes; of 1 source: test: 6 clips of 5 classes; "
        "of 2 sources: test: 6 clips of 5 classes; 2 official pairs"
    )
    with_three = replace(evaluation, num_sources=(1, 2, 3), num_mixtures=4)
    counts = [len(row) for row in plan_test(pool_of(paired, with_three), with_three)["clip_id"].to_pylist()]
    assert counts == [1] * 4 + [2] * 2 + [3] * 4


def test_solos_and_duets_are_two_lists_of_whole_clips(tmp_path):
    manifest = make_toy_duets(tmp_path)
    evaluation = Evaluation(num_sources=(2, 1), num_mixtures=None, crop="annotated")
    mixing = replace(MIXING, arrangement="whole", window_shards=1)
    plan = plan_test(pool_of(manifest, evaluation, mixing), evaluation)
    assert plan["clip_id"].to_pylist() == [["duet0"], ["duet0"], ["solo0"], ["solo0"]]
    assert plan["picture"].to_pylist() == [[[5]], [[6]], [[0]], [[3]]]


def test_a_frozen_list_of_several_numbers_is_read_by_a_mixing_of_as_many(manifest, tmp_path):
    pool, location = pool_of(manifest, NUMBERS), str(tmp_path / "list.parquet")
    plan = plan_test(pool, NUMBERS)
    write_test_list(location, plan, pool)
    assert read_test_list(location, pool).equals(plan)
    with pytest.raises(UsageError, match=r"mixing.num_sources 3 \(here 2\)\. .* with --evaluation\.num-sources"):
        read_test_list(location, usable_clips(manifest, MIXING, "test"))


def test_a_mixture_of_any_of_the_numbers_is_found_by_its_id(manifest, tmp_path):
    pool, location = pool_of(manifest, NUMBERS), str(tmp_path / "list.parquet")
    plan = plan_test(pool, NUMBERS)
    write_test_list(location, plan, pool)
    names = [plan["mixture_id"][row].as_py() for row in (2, 9, 20)]
    for evaluation in (NUMBERS, replace(NUMBERS, test_list=location)):
        found = find_mixtures(names, manifest, MIXING, evaluation, split="absent", seed=0, epochs=1)
        assert [len(row["clip_id"][0]) for row in found.values()] == [1, 2, 3]


def test_numbers_that_mean_nothing_are_refused():
    for numbers in ((), (0, 1), (2, 2)):
        with pytest.raises(UsageError, match="num_sources must be different numbers from 1 on"):
            Evaluation(num_sources=numbers)
    with pytest.raises(UsageError, match="official pairs are of two sources, and num_sources names only"):
        Evaluation(num_sources=(1, 3), pairs="official")
