"""Whole clips are one sound and one picture with as many sources as they have classes."""

from dataclasses import replace

import numpy as np
import pytest

from cocktail.audio.mixing import superpose
from cocktail.config.evaluation import Evaluation
from cocktail.types import NO_CLASS, UsageError
from pipelines.mixtures.batches import read_mixtures, to_batch
from pipelines.mixtures.render import render
from pipelines.mixtures.replay import find_mixtures, write_mixture
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.frozen_list import read_test_list, write_test_list
from pipelines.plans.plan import mixtures_in_words, plan_epoch, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_duets import LABELS, WHOLE, duet_audio, make_toy_duets
from tests.made.corpora.toy_shards import CLASSES

BOTH = replace(WHOLE, min_sources=1)
ALL = Evaluation(num_mixtures=None)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_duets(tmp_path_factory.mktemp("duets"))


def class_names(class_ids: list[int]) -> tuple[str, ...]:
    return tuple(CLASSES[class_id] for class_id in class_ids if class_id != NO_CLASS)


def test_clips_of_other_numbers_of_classes_are_left_out_and_counted(manifest):
    duets = usable_clips(manifest, WHOLE, "test")
    assert duets.table["clip_id"].to_pylist() == ["duet0", "duet1"]
    told = "test: 2 clips of 4 classes; left out 1 of no class, 2 of fewer than 2 classes, 1 of more than 2 classes"
    assert mixtures_in_words(duets) == told
    assert sorted(usable_clips(manifest, BOTH, "test").table["clip_id"].to_pylist()) == [
        "duet0",
        "duet1",
        "solo0",
        "solo1",
    ]
    with pytest.raises(UsageError, match="mixtures of 4 sources need at least one such clip"):
        usable_clips(manifest, replace(WHOLE, num_sources=4), "test")


def test_a_duet_is_its_sound_its_picture_and_where_each_of_its_sources_is(manifest):
    plan = plan_test(usable_clips(manifest, BOTH, "test"), replace(ALL, split="test"))
    batch = read_mixtures(plan, ClipSource.of(manifest), BOTH)
    names = [clips[0] for clips in plan["clip_id"].to_pylist()]
    assert names == ["duet0", "duet1", "solo0", "solo1"]
    assert [class_names(row) for row in batch.class_ids.tolist()] == [LABELS[name] for name in names]
    assert batch.present.tolist() == [[True, True], [True, True], [True, False], [True, False]]
    assert batch.pictures is not None
    assert batch.truth is not None
    assert batch.has_truth is not None
    assert batch.pictures.shape == (4, 1, 1, 20, 20, 3)
    # The middle of 12 s is from 4.5 to 7.5 s, and picture 6 is in its own.
    np.testing.assert_array_equal(batch.sources[0, 0].numpy(), duet_audio("duet0")[4500:7500])
    assert not batch.sources[:, 1].any()
    np.testing.assert_allclose(superpose(batch)[1].numpy() * 32768, duet_audio("duet1")[4500:7500], atol=1e-2)
    assert abs(int(batch.pictures[0].float().mean()) - 120) <= 2
    # Nobody marked the bell of duet0 in this picture; of duet1 all was looked at, and nothing found.
    assert batch.has_truth.tolist() == [[True, False], [True, True], [False, False], [False, False]]
    assert not batch.truth[1].any()
    assert batch.truth[0, 0, :, :10].all()
    assert not batch.truth[0, 0, :, 10:].any()
    # A picture before, both are marked, each in its half.
    around = plan_test(usable_clips(manifest, WHOLE, "test"), replace(ALL, crop="annotated"))
    both = read_mixtures(around.slice(0, 1), ClipSource.of(manifest), WHOLE)
    assert both.truth is not None
    assert both.has_truth is not None
    assert both.has_truth.tolist() == [[True, True]]
    np.testing.assert_array_equal(both.truth[0, 0].numpy(), ~both.truth[0, 1].numpy())


def test_whole_clips_are_cut_anywhere_in_training_and_each_leads_each_pass(manifest):
    mixing = replace(BOTH, passes_per_epoch=25)
    pool = usable_clips(manifest, mixing, "test")
    plan = plan_epoch(pool, seed=0, epoch=0)
    rows = plan.to_pylist()
    assert len(rows) == 100
    for begin in range(0, 100, 4):
        assert sorted(row["clip_id"][0] for row in rows[begin : begin + 4]) == ["duet0", "duet1", "solo0", "solo1"]
    assert len({row["start"][0] for row in rows}) > 80
    assert len({tuple(row["square"][0]) for row in rows}) == 100
    assert all(row["gain"] == [1.0] and len(row["clip_id"]) == 1 for row in rows)
    batch = to_batch(render(plan.slice(0, 8), ClipSource.of(manifest), mixing))
    for b, row in enumerate(rows[:8]):
        clip_id, start = row["clip_id"][0], row["start"][0]
        assert class_names(row["class_id"]) == LABELS[clip_id]
        np.testing.assert_array_equal(batch.sources[b, 0].numpy(), duet_audio(clip_id)[start : start + 3000])


def test_the_inline_executor_gives_the_same_whole_clips_on_two_ranks(manifest):
    stream = MixtureStream(folder=manifest.folder, mixing=BOTH, split="test", seed=0, batch_size=4, executor="inline")
    (together,) = stream.batches(0, 0, 0, 1)
    parts = [next(stream.batches(0, 0, rank, 2)) for rank in (0, 1)]
    assert together.mixture_ids == parts[0].mixture_ids + parts[1].mixture_ids
    assert together.pictures is not None
    np.testing.assert_array_equal(together.class_ids, np.concatenate([part.class_ids for part in parts]))
    pictures = [part.pictures.numpy() for part in parts if part.pictures is not None]
    np.testing.assert_array_equal(together.pictures, np.concatenate(pictures))


def test_a_whole_clip_is_another_mixture_than_the_clip_as_one_source(manifest):
    solos = plan_test(usable_clips(manifest, replace(WHOLE, num_sources=1), "test"), ALL)
    singles = plan_test(usable_clips(manifest, replace(WHOLE, arrangement="remixed", num_sources=1), "test"), ALL)
    assert solos["clip_id"] == singles["clip_id"]
    assert solos["start"] == singles["start"]
    assert not set(solos["mixture_id"].to_pylist()) & set(singles["mixture_id"].to_pylist())


def test_a_frozen_list_of_whole_clips_is_read_as_such_alone(manifest, tmp_path):
    pool, location = usable_clips(manifest, BOTH, "test"), str(tmp_path / "duets.parquet")
    plan = plan_test(pool, replace(ALL, crop="annotated"))
    write_test_list(location, plan, pool)
    assert read_test_list(location, pool).equals(plan)
    remixed = replace(BOTH, arrangement="remixed")
    with pytest.raises(UsageError, match=r"whole_clips True \(here False\).*--mixing.arrangement whole"):
        read_test_list(location, usable_clips(manifest, remixed, "test"))


def test_a_whole_clip_is_replayed_as_one_sound_with_its_picture(manifest, tmp_path):
    pool = usable_clips(manifest, BOTH, "test")
    name = plan_test(pool, ALL)["mixture_id"][0].as_py()
    found = find_mixtures([name], manifest, BOTH, ALL, split="train", seed=0, epochs=1)
    folder = write_mixture(tmp_path, found[name], manifest, BOTH)
    assert sorted(path.name for path in folder.iterdir()) == ["mixture-0.png", "mixture.wav", "row.json"]


def test_settings_that_whole_clips_have_no_use_for_are_refused(manifest):
    with pytest.raises(UsageError, match="leave out no-distinct-classes"):
        replace(WHOLE, distinct_classes=False)
    with pytest.raises(UsageError, match="balance classes needs distinct classes, remixed"):
        replace(WHOLE, balance="classes")
    with pytest.raises(UsageError, match="whole-groups is for released mixtures"):
        plan_test(usable_clips(manifest, WHOLE, "test"), replace(ALL, whole_groups=True))
    with pytest.raises(UsageError, match="official pairs are of clips to be mixed"):
        plan_test(usable_clips(manifest, WHOLE, "test"), replace(ALL, pairs="official"))
