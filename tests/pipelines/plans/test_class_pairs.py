"""Each pair of classes is tested equally often, on different crops."""

from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise

import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.datasets.index import IndexRow, make_index
from pipelines.plans.frozen_list import read_test_list, write_test_list
from pipelines.plans.plan import mixtures_in_words, plan_test
from pipelines.plans.pool import usable_clips
from tests.made.corpora.toy_duets import make_toy_duets
from tests.made.corpora.toy_shards import CLASSES, RATE, make_toy_shards, toy_audio, toy_clip, write_shards

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=4)
PAIRS = Evaluation(split="train", pairs="classes", crop="random", num_mixtures=None, crops_per_pair=3)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def pool(manifest):
    return usable_clips(manifest, MIXING, "train")


def test_each_pair_of_classes_is_tested_equally_often_and_no_mixture_twice(pool):
    plan = plan_test(pool, PAIRS)
    pairs = [tuple(row) for row in plan["class_id"].to_pylist()]
    every = list(combinations(range(len(CLASSES)), 2))
    assert pairs == every * 3, "first each pair once"
    assert len(set(plan["mixture_id"].to_pylist())) == len(plan) == 30
    assert set(Counter(gain for row in plan["gain"].to_pylist() for gain in row)) == {1.0}
    assert mixtures_in_words(pool, PAIRS).endswith("; 10 pairs of classes, 3 crops of each")


def test_eleven_solos_give_fifty_five_pairs_of_ten_crops_each(tmp_path):
    """Co-Separation's test of MUSIC."""
    instruments = [f"instrument{n:02d}" for n in range(11)]
    clips = []
    for number, labels in enumerate([*((name,) for name in instruments), *pairwise(instruments)]):
        row = IndexRow(
            clip_id=f"video{number:02d}",
            recording=f"video{number:02d}",
            media_path="",
            labels=labels,
            split="test",
            nominal_seconds=5,
        )
        clips.append((make_index([row], instruments).to_pylist()[0], toy_clip(toy_audio(number))))
    manifest = write_shards(tmp_path, {"test-00000": clips}, instruments)
    plan = plan_test(
        usable_clips(manifest, replace(MIXING, several_classes=True), "test"),
        Evaluation(pairs="classes", crop="random", num_mixtures=None),
    )
    pairs = Counter(tuple(row) for row in plan["class_id"].to_pylist())
    assert len(plan) == 550 and len(pairs) == 55 and set(pairs.values()) == {10}
    assert len(set(plan["mixture_id"].to_pylist())) == 550


def test_the_seed_decides_them_and_fewer_are_the_first_of_more(pool):
    plan = plan_test(pool, PAIRS)
    assert plan_test(pool, PAIRS).equals(plan)
    assert not plan_test(pool, replace(PAIRS, seed=2)).equals(plan)
    assert plan_test(pool, replace(PAIRS, num_mixtures=12)).equals(plan.slice(0, 12))
    more = plan_test(pool, replace(PAIRS, crops_per_pair=5))
    assert more["mixture_id"].to_pylist()[:30] == plan["mixture_id"].to_pylist()


def test_clips_of_a_class_take_turns_by_chance(pool):
    plan = plan_test(pool, replace(PAIRS, crops_per_pair=40))
    clips = Counter(row[0] for row in plan["clip_id"].to_pylist() if row)
    number = {c: int((pool.class_id == c).sum()) for c in range(len(CLASSES))}
    assert min(number.values()) > 1
    assert len(clips) == sum(number[c] for c in range(len(CLASSES) - 1)), "the last class is never the first of a pair"


def test_duets_take_no_part(tmp_path):
    mixing = replace(MIXING, several_classes=True)
    pool = usable_clips(make_toy_duets(tmp_path), mixing, "test")
    plan = plan_test(pool, replace(PAIRS, split="test"))
    assert {tuple(row) for row in plan["clip_id"].to_pylist()} == {("solo0", "solo1")} and len(plan) == 3
    assert plan["label_ids"].to_pylist() == [[[CLASSES.index("bell")], [CLASSES.index("drum")]]] * 3


def test_a_list_of_them_is_frozen_like_any(pool, tmp_path):
    plan = plan_test(pool, PAIRS)
    write_test_list(str(tmp_path / "list.parquet"), plan, pool)
    assert read_test_list(str(tmp_path / "list.parquet"), pool).equals(plan)


def test_only_named_classes_are_tested(pool):
    plan = plan_test(pool, replace(PAIRS, classes=("lute", "bell", "harp")))
    names = {tuple(sorted(CLASSES[c] for c in row)) for row in plan["class_id"].to_pylist()}
    assert names == set(combinations(("bell", "harp", "lute"), 2))
    drawn = plan_test(pool, Evaluation(split="train", num_mixtures=20, classes=("lute", "bell")))
    assert {CLASSES[c] for row in drawn["class_id"].to_pylist() for c in row} == {"lute", "bell"}
    with pytest.raises(UsageError, match=r"has no class banjo. It has bell, "):
        plan_test(pool, replace(PAIRS, classes=("banjo",)))
    with pytest.raises(UsageError, match="too few sources"):
        plan_test(pool, replace(PAIRS, classes=("bell",)))


def test_a_clip_of_another_class_too_is_left_out(tmp_path):
    pool = usable_clips(make_toy_duets(tmp_path), replace(MIXING, several_classes=True, num_sources=1), "test")
    tested = plan_test(pool, Evaluation(num_mixtures=None, classes=("bell", "drum")))
    assert [clips[0] for clips in tested["clip_id"].to_pylist()] == ["duet0", "solo0", "solo1"]


def test_what_gives_no_different_crops_is_refused(manifest):
    whole = usable_clips(manifest, replace(MIXING, segment_samples=60 * RATE), "train")
    with pytest.raises(UsageError, match=r"clips of bell and drum give only \d+ different crops of the 500"):
        plan_test(whole, replace(PAIRS, crops_per_pair=500))


def test_settings_that_do_not_go_together_are_refused():
    for settings, message in (
        ({"crop": "middle"}, "set crop random"),
        ({"num_sources": (1, 3)}, "classes pairs are of two sources"),
        ({"crops_per_pair": 0}, "crops_per_pair must be at least 1"),
        ({"class_draw": 1}, "class_draw must be at least 2"),
        ({"crop": "annotated"}, "leave out classes pairs"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(PAIRS, **settings)
