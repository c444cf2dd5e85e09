"""Released mixtures are cut at one time at which enough of their sources sound."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.datasets.index import IndexRow, make_index
from pipelines.plans import released
from pipelines.plans.plan import mixtures_in_words, mixtures_per_epoch, plan_epoch, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.plans.released import middle_together
from tests.made.corpora.toy_shards import CLASSES, RATE, toy_clip, write_shards

MIXING = Mixing(arrangement="released", sample_rate_hz=RATE, segment_samples=2000, window_shards=2)
SONGS = 8
SECONDS = 12
STEMS = ("bell", "drum", "harp", "horn")


def stem_audio(song: int, stem: int) -> np.ndarray:
    """Stem s of song m sounds in the seconds from m to m + 3 s, so that with each second more of them do."""
    audio = np.random.default_rng(10 * song + stem).integers(-9000, 9000, SECONDS * RATE).astype("<i2")
    audio[: (song % 3) * RATE] = 0
    audio[(song % 3 + 3 * (stem + 1)) * RATE :] = 0
    return audio


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    shards = {}
    for shard in range(4):
        samples = []
        for song in (2 * shard, 2 * shard + 1):
            # Song 7 has one bell only, and something that nobody named.
            labels = [(name,) for name in STEMS] if song < SONGS - 1 else [("bell",), ()]
            for stem, names in enumerate(labels):
                row = IndexRow(
                    clip_id=f"song{song}/{stem}",
                    recording=f"song{song}",
                    media_path="",
                    labels=names,
                    split="train",
                    nominal_seconds=SECONDS,
                    group=f"song{song}",
                    role=f"stem{stem}",
                )
                index_row = make_index([row], CLASSES).to_pylist()[0]
                samples.append((index_row, toy_clip(stem_audio(song, stem))))
        shards[f"train-{shard:05d}"] = samples
    return write_shards(tmp_path_factory.mktemp("songs"), shards, CLASSES)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), fewest=st.integers(1, 4), more=st.integers(0, 3))
def test_sources_of_one_song_cut_at_one_time_all_sound(manifest, seed, fewest, more):
    mixing = replace(MIXING, min_sources=fewest, num_sources=min(fewest + more, 4))
    pool = usable_clips(manifest, mixing, "train")
    rows = plan_epoch(pool, seed=seed, epoch=0).to_pylist()
    songs = [row["clip_id"][0].partition("/")[0] for row in rows]
    assert sorted(songs) == sorted({f"song{n}" for n in range(SONGS - (fewest > 1))})
    assert len(rows) == mixtures_per_epoch(pool)
    for row in rows:
        assert len({clip.partition("/")[0] for clip in row["clip_id"]}) == 1
        assert len(set(row["start"])) == 1
        assert len(set(row["class_id"])) == len(row["class_id"])
        assert fewest <= len(row["clip_id"]) <= mixing.num_sources
        assert row["gain"] == [1.0] * len(row["clip_id"])
        for clip, start in zip(row["clip_id"], row["start"], strict=True):
            song, stem = int(clip[4]), int(clip[-1])
            whole = range(-(-start // RATE), (start + 2000) // RATE)
            sounding = range(song % 3, song % 3 + 3 * (stem + 1))
            assert set(whole) & set(sounding), "a silent crop"


def test_any_stems_are_taken_as_often_as_any_other(manifest):
    # Where all four sound: two of them are drawn.
    pool = usable_clips(manifest, replace(MIXING, segment_samples=SECONDS * RATE, passes_per_epoch=300), "train")
    pairs = [frozenset(row) for row in plan_epoch(pool, seed=0, epoch=0)["class_id"].to_pylist()]
    shares = [pairs.count(pair) / len(pairs) for pair in set(pairs)]
    assert len(shares) == 6
    assert max(abs(share * 6 - 1) for share in shares) < 0.25


def test_whole_released_mixtures_are_those_that_are_complete(manifest):
    whole = Evaluation(num_mixtures=None, whole_groups=True)
    four = replace(MIXING, num_sources=4, segment_samples=10 * RATE)
    plan = plan_test(usable_clips(manifest, four, "train"), whole)
    assert [row[0] for row in plan["clip_id"].to_pylist()] == [f"song{n}/0" for n in range(SONGS - 1)]
    assert all(len(row) == 4 for row in plan["clip_id"].to_pylist())
    # In the middle the first stem is silent; second 1 or 2 is the first from which all four sound.
    short = plan_test(usable_clips(manifest, replace(four, segment_samples=3 * RATE), "train"), whole)
    assert [row[0] for row in short["start"].to_pylist()] == [0] * 7
    # Song 7 has two sources, of which only one has a class: it is not whole.
    with pytest.raises(UsageError, match=r"gives no test mixture .*, 0 of them whole"):
        plan_test(usable_clips(manifest, MIXING, "train"), whole)
    any_class = replace(MIXING, distinct_classes=False, segment_samples=10 * RATE)
    plan = plan_test(usable_clips(manifest, any_class, "train"), whole)
    assert plan["clip_id"].to_pylist() == [["song7/0", "song7/1"]]
    assert plan["class_id"].to_pylist() == [[0, -1]]


@pytest.fixture(scope="module")
def late_songs(tmp_path_factory):
    """Three songs of two stems: both sound in the middle, in the tenth second alone, and never at one time."""
    shards = {"train-00000": []}
    for song, (first, second) in enumerate([((4, 8), (4, 8)), ((8, 10), (9, 12)), ((0, 3), (9, 12))]):
        for stem, (begin, end) in enumerate((first, second)):
            row = IndexRow(
                clip_id=f"song{song}/{stem}",
                recording=f"song{song}",
                media_path="",
                labels=(STEMS[stem],),
                split="train",
                nominal_seconds=SECONDS,
                group=f"song{song}",
                role=f"stem{stem}",
            )
            index_row = make_index([row], CLASSES).to_pylist()[0]
            audio = np.random.default_rng(stem).integers(-9000, 9000, SECONDS * RATE).astype("<i2")
            audio[: begin * RATE] = audio[end * RATE :] = 0
            shards["train-00000"].append((index_row, toy_clip(audio)))
    return write_shards(tmp_path_factory.mktemp("late"), shards, CLASSES)


def test_each_row_is_cut_from_its_middle_or_its_first_second_whatever_the_others_are(late_songs, monkeypatch):
    pool = usable_clips(late_songs, MIXING, "train")
    place = {name: number for number, name in enumerate(pool.table["clip_id"].to_pylist())}
    songs = np.array([[place[f"song{song}/{stem}"] for stem in range(2)] for song in range(3)])
    take, counts = released._take, []

    def noticed(pool, members, starts):
        counts.append(len(members))
        return take(pool, members, starts)

    monkeypatch.setattr(released, "_take", noticed)
    drawn = middle_together(pool, songs)
    assert drawn.chosen.tolist() == songs[:2].tolist(), "the third has no time at which both sound"
    assert drawn.starts.tolist() == [[5 * RATE] * 2, [8 * RATE] * 2]
    assert counts == [3] + [2] * 9 + [1] * 3, "who is settled is not tried again"
    counts.clear()
    assert middle_together(pool, songs[:2]).starts.tolist() == drawn.starts.tolist()
    assert counts == [2] + [1] * 9, "nothing is tried once all are settled"


def test_drawn_test_mixtures_of_stems_sound_and_occur_once(manifest):
    pool = usable_clips(manifest, replace(MIXING, segment_samples=5 * RATE), "train")
    plan = plan_test(pool, Evaluation(num_mixtures=42))  # seven songs of four stems: 42 pairs
    assert len({frozenset(clips) for clips in plan["clip_id"].to_pylist()}) == 42
    with pytest.raises(UsageError, match="only 42 different"):
        plan_test(pool, Evaluation(num_mixtures=43))


def test_what_cannot_be_used_is_counted(manifest):
    pool = usable_clips(manifest, MIXING, "train")
    assert pool.left_out == {"of no class": 1}
    told = mixtures_in_words(pool, Evaluation(whole_groups=True))
    assert told == (
        "train: 29 clips of 4 classes; left out 1 of no class; 7 released mixtures, 1 cannot be used, 0 of them whole "
        "and of as many sources as asked for"
    )
    with pytest.raises(UsageError, match=r"in no released mixture .* do 5 sources of different classes sound"):
        plan_epoch(
            usable_clips(manifest, replace(MIXING, num_sources=5, distinct_classes=False), "train"), seed=0, epoch=0
        )


def whole(manifest, split):
    """The songs of a split or a part of one that are tested as they were released."""
    mixing = replace(MIXING, min_sources=2, num_sources=4, segment_samples=5 * RATE)
    pool = usable_clips(manifest, mixing, split)
    plan = plan_test(pool, Evaluation(whole_groups=True, num_mixtures=None))
    return {clips[0].partition("/")[0] for clips in plan["clip_id"].to_pylist()}


def test_a_part_of_a_split_has_whole_songs_or_those_of_which_all_recordings_are_in_it(manifest):
    all_songs = whole(manifest, "train")
    parts = whole(manifest, "train[:50%]"), whole(manifest, "train[50%:]")
    assert parts[0] and parts[1] and not parts[0] & parts[1]
    assert parts[0] | parts[1] == all_songs
    # As FUSS's mixtures do, songs of either part share a recording: one of them is whole in neither.
    first, second = (min(part) for part in parts)
    names = manifest.table["recording"].to_pylist()
    names[manifest.table["clip_id"].to_pylist().index(f"{second}/0")] = first
    place = manifest.table.column_names.index("recording")
    shared = replace(manifest, table=manifest.table.set_column(place, "recording", pa.array(names)))
    assert (whole(shared, "train[:50%]"), whole(shared, "train[50%:]")) == (parts[0], parts[1] - {second})


@pytest.mark.parametrize("pictures", [0, 1])
def test_a_split_of_which_no_song_is_whole_is_refused_with_what_it_has(manifest, pictures):
    names = [f"song{n}" for n in range(len(manifest.table))]
    table = manifest.table.set_column(manifest.table.column_names.index("recording"), "recording", pa.array(names))
    frames = pa.array([[0]] * len(table))
    for name in ("frame_offsets", "frame_sizes", "frame_checks", "frame_seconds"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, frames.cast(table.schema.field(name).type))
    mixing = replace(MIXING, min_sources=2, num_sources=4, segment_samples=5 * RATE, pictures_per_source=pictures)
    pool = usable_clips(replace(manifest, table=table), mixing, "train[:30%]")
    with pytest.raises(UsageError, match=r"gives no test mixture .* 0 of them whole"):
        plan_test(pool, Evaluation(whole_groups=True, num_mixtures=None))


def test_clips_that_were_not_released_together_are_left_out(tmp_path):
    row = IndexRow(
        clip_id="alone", recording="alone", media_path="", labels=("bell",), split="train", nominal_seconds=SECONDS
    )
    index_row = make_index([row], CLASSES).to_pylist()[0]
    manifest = write_shards(tmp_path, {"train-00000": [(index_row, toy_clip(stem_audio(0, 0)))]}, CLASSES)
    with pytest.raises(UsageError, match="left out 1 not part of a mixture"):
        usable_clips(manifest, MIXING, "train")
