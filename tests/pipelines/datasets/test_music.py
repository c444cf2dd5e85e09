"""The index of MUSIC knows the layouts, lists and boxes that others released, and says what it leaves out."""

import json
import os

import numpy as np
import pytest
import soundfile
import tyro

from cocktail.types import UsageError
from jobs.shard_music import ShardMUSIC
from pipelines.datasets.music import NOMINAL_SECONDS, MusicSettings, index_released_music, sound_seconds
from pipelines.shards.plan import ShardSettings, plan_shards, planned_clip_ids
from tests.made.corpora.miniature_clips import write_clip
from tests.made.corpora.released_music import (
    BOX,
    dsol,
    index,
    make,
    names,
    notes,
    seconds,
    splits,
    video,
    write_json,
    write_lines,
)


def test_solos_and_duets_come_in_the_order_of_their_files_with_instruments_as_labels(tmp_path):
    duet = make(tmp_path, 4, ".m4a", cello__acoustic_guitar=[3])
    solo = make(tmp_path, 3, ".wav", violin=[2, 1], cello=[4])
    table = index(tmp_path, solo, duet, frames_per_second=2.0, split="first-second")
    assert json.loads(table.schema.metadata[b"cocktail.classes"]) == ["acoustic_guitar", "cello", "violin"]
    assert notes(table) == []
    assert table["clip_id"].to_pylist() == [video(number) for number in (2, 1, 4, 3)]
    assert table["labels"].to_pylist() == [["violin"], ["violin"], ["cello"], ["cello", "acoustic_guitar"]]
    assert table["class_ids"].to_pylist() == [[2], [2], [1], [1, 0]]
    assert table["problem"].to_pylist() == [None] * 4
    assert table["boxes"].to_pylist() == [None] * 4
    rows = table.to_pylist()
    assert rows[0]["media_path"] == str(tmp_path / "audio" / "violin" / f"{video(2)}.wav")
    assert rows[3]["media_path"] == str(tmp_path / "audio" / "cello acoustic_guitar" / f"{video(3)}.m4a")
    frames = tmp_path / "frames" / "cello acoustic_guitar" / f"{video(3)}.mp4"
    assert rows[3]["pictures"] == [
        {"path": str(frames / "000001.jpg"), "seconds": 0.0},
        {"path": str(frames / "000003.jpg"), "seconds": 1.0},
    ]


def test_a_duet_alone_has_the_classes_of_its_instruments(tmp_path):
    table = index(tmp_path, make(tmp_path, flute__trumpet=[1]))
    assert table["class_ids"].to_pylist() == [[0, 1]]


def test_what_is_missing_is_a_problem_of_its_row(tmp_path):
    solo = make(tmp_path, cello=[1, 2, 3, 4, 5, 6], tuba=[7])
    sounds, frames = tmp_path / "audio" / "cello", tmp_path / "frames" / "cello"
    (sounds / f"{video(2)}.mp3").unlink()
    for number in (3, 4):
        for name in frames.joinpath(f"{video(number)}.mp4").iterdir():
            name.unlink()
    frames.joinpath(f"{video(3)}.mp4").rmdir()
    (sounds / f"{video(5)}.mp3").rename(sounds / os.fsdecode(video(5).encode() + b"\xe9.mp3"))
    (tmp_path / "audio" / "tuba" / f"{video(7)}.mp3").unlink()
    (tmp_path / "audio" / "tuba").rmdir()
    table = index(tmp_path, solo)
    assert table["problem"].to_pylist() == [
        None,
        "missing file",
        "missing file",
        "missing file",
        "undecodable file name",
        None,
        "missing file",
    ]
    assert table["media_path"].to_pylist()[6] == str(tmp_path / "audio" / "tuba" / f"{video(7)}.mp3")


def test_one_frame_is_taken_of_every_so_many_seconds_of_those_that_are_listed(tmp_path):
    solo = make(tmp_path, 20, cello=[1])
    frames = tmp_path / "frames" / "cello" / f"{video(1)}.mp4"
    (frames / "000009.jpg").unlink()
    (frames / ".DS_Store").touch()
    (row,) = index(tmp_path, solo, frames_per_second=8.0).to_pylist()
    assert (names(row), seconds(row)) == (["000001.jpg", "000010.jpg", "000017.jpg"], [0.0, 9 / 8, 2.0])
    (row,) = index(tmp_path, solo, frames_per_second=8.0, seconds_between_pictures=0.5).to_pylist()
    assert names(row) == [f"{number:06d}.jpg" for number in (1, 5, 10, 13, 17)]
    (row,) = index(tmp_path, solo, frames_per_second=10.0, seconds_between_pictures=0.1).to_pylist()
    assert len(names(row)) == 19  # all, though 0.3 / 0.1 is a little less than 3


def test_frames_numbered_from_zero_are_refused_since_their_times_would_be_off(tmp_path):
    solo = make(tmp_path, cello=[1])
    (tmp_path / "frames" / "cello" / f"{video(1)}.mp4" / "000000.jpg").touch()
    with pytest.raises(UsageError, match=r"000000.jpg: frames are numbered from 1"):
        index(tmp_path, solo)


def test_a_stratified_split_trains_on_four_fifths_of_the_released_videos_of_each_class(tmp_path):
    solo = make(tmp_path, cello=range(12), tuba=range(20, 27), flute=[30])
    for number in (3, 8):
        (tmp_path / "audio" / "cello" / f"{video(number)}.mp3").unlink()
    pairs = [(row["labels"][0], row["split"]) for row in index(tmp_path, solo).to_pylist()]
    assert {pair: pairs.count(pair) for pair in set(pairs)} == {
        ("cello", "train"): 9,
        ("cello", "val"): 3,
        ("tuba", "train"): 5,
        ("tuba", "val"): 2,
        ("flute", "val"): 1,
    }


def test_a_sound_or_a_frame_that_comes_later_moves_no_clip_to_another_split_or_shard(tmp_path):
    def dealt():
        table = index(tmp_path, solo, frames_per_second=8.0)
        plan = plan_shards(table, ShardSettings(dataset="music", shard_mb=6))
        shards = dict(zip(plan["shard"].to_pylist(), planned_clip_ids(plan), strict=True))
        return splits(table), shards, plan["deal_hash"].to_pylist(), table["nominal_seconds"].to_pylist()

    solo = make(tmp_path, 16, cello=range(11))
    whole = dealt()
    assert len(whole[1]) > 4
    assert whole[3] == [NOMINAL_SECONDS] * 11
    sounds = [tmp_path / "audio" / "cello" / f"{video(number)}.mp3" for number in range(11)]
    for hidden in (*sounds, *(tmp_path / "frames" / "cello").iterdir()):
        hidden.rename(tmp_path / "elsewhere")
        assert dealt() == whole
        (tmp_path / "elsewhere").rename(hidden)


def test_a_stratified_split_depends_on_ids_and_seed_but_not_on_their_order(tmp_path):
    solo = make(tmp_path, cello=range(20))
    turned = write_json(tmp_path / "turned.json", {"videos": {"cello": [video(n) for n in reversed(range(20))]}})
    assert splits(index(tmp_path, solo)) == splits(index(tmp_path, turned))
    assert splits(index(tmp_path, solo)) != splits(index(tmp_path, solo, split_seed=1))
    assert list(splits(index(tmp_path, solo)).values()) != ["train"] * 16 + ["val"] * 4


def make_with_sounds(folder, num_frames, seconds):
    """As `make`, of cellos with a sound each that lasts so many seconds; None for one that is no sound."""
    solo = make(folder, num_frames, ".wav", cello=range(len(seconds)))
    for number, length in enumerate(seconds):
        path = folder / "audio" / "cello" / f"{video(number)}.wav"
        if length is None:
            path.write_text("<html>")
        else:
            soundfile.write(path, np.zeros(round(100 * length), np.int16), 100)
    return solo


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_frames_of_another_rate_than_the_sound_says_are_refused_with_the_rate_that_fits(tmp_path, scheme):
    solo = scheme + make_with_sounds(tmp_path, 24, [24.0, 24.5])
    assert len(index(f"{scheme}{tmp_path}", solo, frames_per_second=1.0)) == 2
    told = r"--frames-per-second is 8, .* about 0.99 frames a second: 24 in 24.0 s, 24 in 24.5 s. Give the rate"
    with pytest.raises(UsageError, match=told):
        index(f"{scheme}{tmp_path}", solo, frames_per_second=8.0)


@pytest.mark.parametrize(("rate", "is_taken"), [(6.0, False), (7.0, True), (9.0, True), (10.0, False)])
def test_the_rate_may_be_off_by_no_more_than_a_fifth(tmp_path, rate, is_taken):
    solo = make_with_sounds(tmp_path, 32, [4.0])
    if is_taken:
        assert len(index(tmp_path, solo, frames_per_second=rate)) == 1
    else:
        with pytest.raises(UsageError, match=r"about 8 frames a second: 32 in 4.0 s"):
            index(tmp_path, solo, frames_per_second=rate)


def test_the_rate_is_that_of_most_of_a_few_clips_from_first_to_last(tmp_path):
    """Of the ten every second is looked at: one is no sound, one is cut short, three tell the rate."""
    seconds = [24.0, 3.0, None, 3.0, 2.0, 3.0, 24.0, 3.0, 24.0, 3.0]
    assert len(index(tmp_path, make_with_sounds(tmp_path, 24, seconds))) == 10


def test_frames_that_were_thinned_out_keep_their_times(tmp_path):
    solo = make_with_sounds(tmp_path, 64, [8.0])
    for path in (tmp_path / "frames" / "cello" / f"{video(0)}.mp4").iterdir():
        if int(path.stem) % 8:
            path.unlink()
    (row,) = index(tmp_path, solo, frames_per_second=8.0).to_pylist()
    assert seconds(row) == [number - 1 / 8 for number in range(1, 9)]


@pytest.mark.parametrize("ending", [".mp3", ".wav", ".m4a"])
def test_the_length_of_a_sound_is_read_of_every_kind_that_is_indexed(tmp_path, ending):
    path = tmp_path / "with space" / f"a{ending}"  # in a URI the space is written otherwise
    path.parent.mkdir()
    if ending == ".m4a":
        write_clip(path, seconds=4.0, has_pictures=False)
    else:
        soundfile.write(path, np.zeros(4 * 11025, np.int16), 11025)
    assert sound_seconds(str(path)) == pytest.approx(4.0, abs=0.2)
    assert sound_seconds(path.as_uri()) == sound_seconds(str(path))
    other = path.rename(path.with_stem("other"))
    path.write_text(f"ffconcat version 1.0\nfile {other.name}\nduration 9\n")  # opens others
    assert sound_seconds(str(path)) is None
    path.unlink()
    assert sound_seconds(str(path)) is sound_seconds(path.as_uri()) is None


def test_the_first_video_of_a_class_validates_and_the_second_tests(tmp_path):
    solo = make(tmp_path, cello=[5, 1, 3, 2], tuba=[9])
    table = index(tmp_path, solo, make(tmp_path, cello__tuba=[7, 6]), split="first-second")
    assert table["split"].to_pylist() == ["val", "test", "train", "train", "val", "val", "test"]


def test_sound_of_pixels_lists_count_by_class_and_id_wherever_their_paths_start(tmp_path):
    solo = make(tmp_path, cello=[1, 2, 3], tuba=[4])
    train = write_lines(
        tmp_path / "train.csv",
        f"./data/audio/cello/{video(2)}.mp3,./data/frames/cello/{video(2)}.mp4,200",
        f"./data/audio/cello/{video(2)}.mp3,./data/frames/cello/{video(2)}.mp4,200",
        f"/somewhere/audio/tuba/{video(4)}.wav,/elsewhere/frames/tuba/{video(4)}.mp4/,200",
        f"audio/cello/{video(9)}.mp3,frames/cello/{video(9)}.mp4,200",
    )
    val = write_lines(tmp_path / "val.csv", f"cello/{video(1)}.mp3,cello/{video(1)}.mp4,200")
    table = index(tmp_path, solo, split="csv", train_list=(train,), val_list=(val,))
    assert splits(table) == {video(1): "val", video(2): "train", video(4): "train"}
    assert notes(table) == [
        "1 clips of the lists are not in the JSON files: left out",
        "1 clips of the JSON files are on no list: left out",
    ]
    assert json.loads(table.schema.metadata[b"cocktail.classes"]) == ["cello", "tuba"]


def test_a_duets_csv_names_its_folder_with_the_space(tmp_path):
    duet = make(tmp_path, cello__tuba=[1])
    row = f"./music/audio/cello tuba/{video(1)}.mp3,./music/frames/cello tuba/{video(1)}.mp4,200"
    table = index(tmp_path, duet, split="csv", val_list=(write_lines(tmp_path / "val.csv", row),))
    assert splits(table) == {video(1): "val"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (f"audio/cello/{video(1)}.mp3,frames/cello/{video(2)}.mp4,9", "line 2: .* are not the frames of"),
        (f"audio/cello/{video(1)}.mp3,frames/tuba/{video(1)}.mp4,9", "line 2: .* are not the frames of"),
        (f"audio/tuba/{video(1)}.mp3,frames/tuba/{video(1)}.mp4,9", "line 2: .* of another class than tuba"),
        (f"audio/cello/{video(1)}_0_1000.wav,frames/cello/{video(1)}_0_1000,9", "line 2: .* a class and an id"),
        (f"{video(1)}.mp3,{video(1)}.mp4,9", "line 2: .* a class and an id"),
        (f"audio/cello/{video(1)}.mp3,frames/cello/{video(1)}.mp4", "line 2: 2 columns"),
    ],
)
def test_a_csv_that_contradicts_itself_or_the_json_is_refused_with_the_line(tmp_path, row, told):
    solo = make(tmp_path, cello=[1, 2], tuba=[3])
    train = write_lines(tmp_path / "train.csv", f"audio/tuba/{video(3)}.mp3,frames/tuba/{video(3)}.mp4,9", row)
    with pytest.raises(UsageError, match=told) as caught:
        index(tmp_path, solo, split="csv", train_list=(train,))
    assert train in str(caught.value)


def test_lists_of_dsol_and_avgn_count_by_id_and_frames_of_one_video_collapse(tmp_path):
    solo = make(tmp_path, cello=[1, 2, 3, 4])
    duet = make(tmp_path, cello__tuba=[5, 6])
    train = write_lines(tmp_path / "train.txt", f"{video(1)}_0_1000.flac {video(1)}_0_1000.mp4", "")
    more = write_lines(
        tmp_path / "train_duet.txt",
        f"{video(5)}_000_00000,cello,tuba",
        f"{video(5)}_1000_30000,cello,tuba",
        f"{video(9)}_000_00007,cello,tuba",
    )
    val = write_lines(tmp_path / "val.txt", f"{video(2)}_000_00000,cello", f"{video(2)}_013_00411,cello")
    test = write_lines(tmp_path / "test.txt", f"{video(6)}_000_00000")
    table = index(tmp_path, solo, duet, split="lists", train_list=(train, more), val_list=(val,), test_list=(test,))
    assert splits(table) == {video(1): "train", video(2): "val", video(5): "train", video(6): "test"}
    assert notes(table) == [
        "1 clips of the lists are not in the JSON files: left out",
        "2 clips of the JSON files are on no list: left out",
    ]


def test_a_clip_on_the_lists_of_two_splits_is_refused(tmp_path):
    solo = make(tmp_path, cello=[1, 2])
    val = write_lines(tmp_path / "val.txt", f"{video(1)}_000_00000,cello", f"{video(2)}_000_00000,cello")
    test = write_lines(tmp_path / "test.txt", f"{video(2)}_0_1000.flac {video(2)}_0_1000.mp4")
    with pytest.raises(UsageError, match=rf"test.txt, line 1: {video(2)} is on a test list and on a val list"):
        index(tmp_path, solo, split="lists", val_list=(val,), test_list=(test,))


@pytest.mark.parametrize(
    "line",
    [
        f"{video(1)}_0_1000.flac {video(2)}_0_1000.mp4",
        f"{video(1)}_0_1000.flac other.mp4",
        f"A{video(1)}_000_00000,cello",
        "short_000_00000,cello",
        ",cello",
        f"audio/cello/{video(1)}.mp3,frames/cello/{video(1)}.mp4,9",
    ],
)
def test_a_line_of_another_kind_is_refused(tmp_path, line):
    solo = make(tmp_path, cello=[1, 2])
    train = write_lines(tmp_path / "train.txt", f"{video(1)}_0_1000.flac {video(1)}_0_1000.mp4", line)
    with pytest.raises(UsageError, match=r"train.txt, line 2: .* Expected lines as <id>_0_1000.flac"):
        index(tmp_path, solo, split="lists", train_list=(train,))


def test_lists_of_other_videos_are_refused(tmp_path):
    solo = make(tmp_path, cello=[1])
    train = write_lines(tmp_path / "train.txt", f"{video(8)}_000_00000,cello", f"{video(9)}_000_00000,cello")
    with pytest.raises(UsageError, match=r"none of the 2 clips on the lists is in .*cello.json"):
        index(tmp_path, solo, split="lists", train_list=(train,))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"cello": [video(1)]}, "is something else"),
        ({"videos": {"cello": video(1)}}, "is something else"),
        ([], "is something else"),
        ({"videos": {"cello": ["short"]}}, "cello: 'short'. Expected a YouTube id"),
        ({"videos": {"cello": [7]}}, "cello: 7. Expected a YouTube id"),
        ({"videos": {"cello tuba flute": [video(1)]}}, "class 'cello tuba flute'. Expected an instrument, or two"),
        ({"videos": {"../cello": [video(1)]}}, "class '../cello'"),
    ],
)
def test_a_json_file_of_another_kind_is_refused(tmp_path, content, told):
    make(tmp_path, cello=[1])
    with pytest.raises(UsageError, match=told) as caught:
        index(tmp_path, write_json(tmp_path / "other.json", content))
    assert "other.json" in str(caught.value)


def test_folders_that_are_not_there_are_refused(tmp_path):
    solo = make(tmp_path, cello=[1])
    with pytest.raises(UsageError, match=r"cannot list .*none/audio: .* Expected Sound of Pixels' folders"):
        index(tmp_path / "none", solo)
    with pytest.raises(UsageError, match=r"no list of videos. Give --solo, --duet or both"):
        index(tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"frames_per_second": 0.0}, "frames_per_second is 0.0"),
        ({"seconds_between_pictures": -1.0}, "seconds_between_pictures is -1.0"),
        ({"split": "csv"}, "--split csv without lists"),
        ({"val_list": ("val.csv",)}, "--val-list is given, but --split is stratified"),
        ({"box_frames": "frames"}, "--box-frames is given, but no --boxes"),
    ],
)
def test_settings_that_cannot_be_or_would_do_nothing_are_refused(settings, told):
    with pytest.raises(UsageError, match=told):
        MusicSettings(**settings)


def test_an_index_of_a_store_is_the_same_but_for_where_it_lies(tmp_path):
    solo = make(tmp_path, 3, cello=range(5), tuba=[7])
    (tmp_path / "audio" / "cello" / f"{video(2)}.mp3").unlink()
    given = write_json(tmp_path / "solotest.json", dsol({(video(1), 1, 37): [(1, BOX)]}))
    local = index(tmp_path, solo, boxes=(given,)).to_pylist()
    stored = index(f"file://{tmp_path}", f"file://{solo}", boxes=(f"file://{given}",)).to_pylist()
    assert stored[0]["pictures"][0]["path"].startswith("file:///")
    for row in stored:
        row["media_path"] = row["media_path"].removeprefix("file://")
        for picture in row["pictures"]:
            picture["path"] = picture["path"].removeprefix("file://")
    assert stored == local


def test_the_same_files_at_another_place_are_told_of_with_the_same_words(tmp_path):
    told = []
    for place in (tmp_path / "here", tmp_path / "there"):
        place.mkdir()
        solo = make(place, 3, cello=range(5))
        train = write_lines(place / "train.txt", f"{video(1)}_000_00000,cello", f"{video(9)}_000_00000,cello")
        given = write_json(place / "solotest.json", dsol({(video(9), 1, 37): [(1, BOX)]}))
        table = index(place, solo, split="lists", train_list=(train,), boxes=(given,))
        assert len(notes(table)) == 3
        told.append(table.schema.metadata)
    assert told[0] == told[1]


def test_the_job_hands_its_options_to_the_index(tmp_path, monkeypatch):
    solo, duet = make(tmp_path, 16, cello=[1, 2]), make(tmp_path, 16, cello__tuba=[3])
    rows = [
        f"audio/{category}/{video(n)}.mp3,frames/{category}/{video(n)}.mp4,16"
        for n, category in ((1, "cello"), (3, "cello tuba"))
    ]
    train = [write_lines(tmp_path / "train.csv", rows[0]), "train_duet.csv"]
    write_lines(tmp_path / "train_duet.csv", rows[1])
    given = write_json(tmp_path / "boxes.json", dsol({(video(3), 0, 15): [(1, BOX)]}))
    arguments = ["--root", str(tmp_path), "--solo", solo, "--duet", duet, "--shards", "shards"]
    arguments += ["--split", "csv", "--train-list", *train, "--boxes", given, "--frames-per-second", "8"]
    monkeypatch.chdir(tmp_path)
    job = tyro.cli(ShardMUSIC, args=arguments)
    table = index_released_music(**job.sources())
    assert splits(table) == {video(1): "train", video(3): "train"}
    assert [seconds(row) for row in table.to_pylist()] == [[0.0, 1.0], [0.0, 0.5, 1.0]]
    assert (job.settings.dataset, job.settings.min_seconds, job.settings.max_seconds) == ("music", 20.0, 1800.0)
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    with pytest.raises(UsageError, match=r"--train-list train_duet.csv is relative"):
        index_released_music(**job.sources())
