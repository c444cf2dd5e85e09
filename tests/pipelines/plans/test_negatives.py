"""Negatives of a test: pictures beside sounds of another class, or silence, drawn by the plan, and nothing else new."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import Negative, UsageError
from pipelines.experiments.planned import PlannedRun
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.replay import find_mixtures
from pipelines.plans.evaluation import make_test_list, planned_test
from pipelines.plans.foreign_rows import require_of
from pipelines.plans.frozen_list import write_test_list
from pipelines.plans.plan import plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_shards import RATE, make_toy_shards

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, pictures_per_source=1, picture_side=8)
MIXING_ALONE = replace(MIXING, num_sources=1)
PLAIN = Evaluation(num_sources=(1, 2), num_mixtures=6)
WITH = replace(PLAIN, negatives=("off_screen", "silent"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"), with_pictures=True)


@pytest.fixture(scope="module")
def plan(manifest):
    return make_test_list(manifest, MIXING, WITH)


def test_what_was_tested_without_negatives_stays_as_it_was(manifest, plan):
    plain = make_test_list(manifest, MIXING, PLAIN)
    assert plan.slice(0, len(plain)).select(plain.column_names).equals(plain)
    assert plan["negative"].to_pylist() == [None] * 12 + ["off_screen"] * 6 + ["silent"] * 6
    assert len(set(plan["mixture_id"].to_pylist())) == 24


def test_each_single_source_has_one_of_each_kind_with_its_own_picture(manifest, plan):
    clips = {clip["clip_id"]: clip for clip in manifest.table.to_pylist()}
    rows = plan.to_pylist()
    for kind, own in (("off_screen", rows[12:18]), ("silent", rows[18:])):
        for single, negative in zip(rows[:6], own, strict=True):
            assert negative["lender"] == single["clip_id"] and negative["lender_shard"] == single["shard"]
            for name in ("picture", "frame_offsets", "frame_checks"):
                assert negative[name] == single[name]
            assert negative["boxes"] == negative["mask_offset"] == [None]
            assert negative["picture_recording"] == single["recording"]
            (heard,) = negative["clip_id"]
            is_own = heard == single["clip_id"][0]
            assert is_own == (kind == "silent") == (negative["gain"] == [0.0])
            assert is_own or clips[heard]["class_ids"] != [single["class_id"][0]]
            assert clips[heard]["class_ids"] == negative["class_id"] and clips[heard]["split"] == "test"


def test_batches_have_the_sounds_and_pictures_of_negatives_and_say_what_they_are(manifest, plan):
    mixing = WITH.test_mixing(MIXING)
    batch = read_mixtures(plan, ClipSource.of(manifest), mixing)
    assert batch.pictures is not None and batch.has_truth is not None and batch.negatives is not None
    assert (batch.pictures[12:18] == batch.pictures[:6]).all() and (batch.pictures[18:] == batch.pictures[:6]).all()
    assert (batch.gains[18:] == 0).all() and (batch.gains[12:18, 0] == 1).all()
    assert not (batch.sources[12:18, 0] == batch.sources[:6, 0]).flatten(1).all(dim=1).any()
    assert batch.has_truth[:6, 0].all() and not batch.has_truth[12:].any()
    assert batch.negatives[:12] == (None,) * 12
    assert batch.negatives[12] == Negative("off_screen", plan["recording"][0].as_py()[0])
    assert [negative and negative.kind for negative in batch.rows(17, 19).negatives or ()] == ["off_screen", "silent"]


def test_a_negative_depends_on_the_seed_and_its_mixture_and_not_on_the_others(manifest, plan):
    alone = replace(WITH, num_sources=(1,), num_mixtures=3, negatives=("off_screen",))
    some = planned_test(manifest, alone.test_mixing(MIXING), alone)
    assert some["mixture_id"].to_pylist()[3:] == plan["mixture_id"].to_pylist()[12:15]
    mixing = WITH.test_mixing(MIXING)
    others = [planned_test(manifest, mixing, replace(WITH, seed=seed)) for seed in range(9)]
    heard = np.array([each["clip_id"].to_pylist()[12:18] for each in others])[:, :, 0]
    assert all(len(set(heard[:, n])) > 2 for n in range(6))


def test_no_class_of_any_clip_of_the_pictures_recording_sounds_off_screen(manifest):
    """As of a scene of two objects, each of which is a clip: the other is in the picture, too."""
    scenes = pa.array([f"scene{number // 2}" for number in range(len(manifest.table))])
    table = manifest.table.set_column(manifest.table.column_names.index("recording"), "recording", scenes)
    clips = {clip["clip_id"]: clip for clip in table.to_pylist()}
    of_scenes: dict[str, set[int]] = {}
    for clip in clips.values():
        of_scenes.setdefault(clip["recording"], set()).update(clip["class_ids"])
    for seed in range(5):
        plan = make_test_list(replace(manifest, table=table), MIXING, replace(WITH, seed=seed))
        for row in plan.slice(12, 6).to_pylist():
            assert not of_scenes[row["picture_recording"][0]] & set(row["class_id"])
            assert row["recording"] != row["picture_recording"]


def test_training_looks_at_none(plan):
    asked = SimpleNamespace(test_list=plan, experiment=SimpleNamespace(mixing=MIXING_ALONE, evaluation=Evaluation()))
    looked_at = PlannedRun.looked_at.fget(asked)  # pyright: ignore[reportOptionalCall]
    assert looked_at["mixture_id"].to_pylist() == plan["mixture_id"].to_pylist()[:6]


def test_negatives_are_replayed_believed_and_made_of_frozen_lists_alike(manifest, plan, tmp_path):
    name = plan["mixture_id"][13].as_py()
    found = find_mixtures([name], manifest, MIXING, WITH, split="train", seed=0, epochs=0)
    assert found[name]["clip_id"].to_pylist() == plan.slice(13, 1)["clip_id"].to_pylist()
    require_of(manifest, plan, "list")
    forged = plan.set_column(plan.column_names.index("picture_recording"), "picture_recording", plan["clip_id"])
    with pytest.raises(UsageError, match="names other bytes than"):
        require_of(manifest, forged.slice(12), "list")
    pool = usable_clips(manifest, PLAIN.test_mixing(MIXING), "test")
    location = str(tmp_path / "list.parquet")
    write_test_list(location, plan_test(pool, PLAIN), pool)
    listed = replace(WITH, test_list=location)
    assert make_test_list(manifest, MIXING, listed).equals(plan)
    assert make_test_list(manifest, MIXING, replace(listed, classes=("bell",))).equals(plan)  # not used beside a list


def test_tests_without_single_sources_or_another_class_are_refused(manifest):
    pairs = replace(WITH, num_sources=(2,))
    with pytest.raises(UsageError, match="are made of single sources with a whole picture each"):
        make_test_list(manifest, MIXING, pairs)
    bells = replace(WITH, num_sources=(1,), classes=("bell",))
    with pytest.raises(UsageError, match="no clip of test is of another class and recording than clip040"):
        make_test_list(manifest, MIXING, bells)
    with pytest.raises(UsageError, match="different kinds, and leave no room for frames-from"):
        replace(WITH, frames_from="train")


def test_a_list_of_pictures_and_sounds_is_read_as_it_is_released(manifest, tmp_path, capsys):
    clips = [clip for clip in manifest.table.to_pylist() if clip["split"] == "test"]
    names = [clip["clip_id"] for clip in clips]
    lines = [
        (names[0], names[1], "non-sounding"),
        (names[2], names[2], "sounding"),
        (names[3], names[0], "non-sounding"),
    ]
    lines += [("gone", names[1], "non-sounding"), lines[0]]
    location = tmp_path / "toy_test_plus_silent.csv"
    location.write_text("".join(",".join(line) + "\n" for line in lines))
    listed = replace(PLAIN, negatives=("silent", "listed"), negative_list=str(location))
    plan = make_test_list(manifest, MIXING, listed)
    said = capsys.readouterr().out
    assert "1 clips are not in split test (as gone)" in said and "negatives: 6 silent, 2 listed" in said
    rows = plan.to_pylist()[-2:]
    assert [(row["lender"], row["clip_id"], row["negative"]) for row in rows] == [
        ([picture], [sound], "listed") for picture, sound, kind in (lines[0], lines[2])
    ]
    batch = read_mixtures(plan.slice(len(plan) - 2), ClipSource.of(manifest), listed.test_mixing(MIXING))
    own = {row["clip_id"][0]: number for number, row in enumerate(plan.to_pylist()[:6])}
    singles = read_mixtures(plan.slice(0, 6), ClipSource.of(manifest), listed.test_mixing(MIXING))
    assert batch.pictures is not None and singles.pictures is not None
    assert batch.pictures[0, 0].equal(singles.pictures[own[names[0]], 0])
    assert batch.sources[0, 0].equal(singles.sources[own[names[1]], 0])
    assert not batch.has_truth.any() and (batch.gains[:, 0] == 1).all()  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize(
    ("text", "message"), [("a,b\n", "line 1: .*SLAVC"), ("gone,away,non-sounding\n", "names no negative of clips")]
)
def test_a_list_of_something_else_is_refused(manifest, tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    asked = replace(PLAIN, negatives=("listed",), negative_list=str(tmp_path / "list.csv"))
    with pytest.raises(UsageError, match=message):
        make_test_list(manifest, MIXING, asked)


def test_a_list_and_its_kind_are_asked_for_together():
    for changes in ({"negatives": ("listed",)}, {"negative_list": "list.csv"}):
        with pytest.raises(UsageError, match="set both or neither"):
            replace(PLAIN, **changes)
