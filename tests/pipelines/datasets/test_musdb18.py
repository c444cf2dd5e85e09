"""The index of MUSDB18 holds four stems of every song, in either released form, and says what it leaves out."""

import json
import os
import wave

import av
import numpy as np
import pytest

from cocktail.media.clips import decode_clip
from cocktail.types import UsageError
from pipelines.datasets.musdb18 import TYPICAL_SECONDS, index_musdb18, wav_seconds

RATE = 8000
HQ = ("mixture", "drums", "bass", "other", "vocals")


def write_wav(path, seconds=0.5):
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(4 * round(seconds * RATE)))


def make_song(split, name, stems=HQ):
    (split / name).mkdir(parents=True)
    for stem in stems:
        write_wav(split / name / f"{stem}.wav")


def make_coded(split, name):
    """An empty file: the index opens none of them."""
    split.mkdir(parents=True, exist_ok=True)
    (split / f"{name}.stem.mp4").touch()


def notes(index):
    return json.loads(index.schema.metadata[b"cocktail.notes"])


def test_a_song_of_wav_files_is_a_group_of_four_stems_without_its_mixture(tmp_path):
    make_song(tmp_path / "train", "Zoë & Co. - Don't")
    make_song(tmp_path / "test", "A - B")
    index = index_musdb18(str(tmp_path))
    assert json.loads(index.schema.metadata[b"cocktail.classes"]) == ["bass", "drums", "other", "vocals"]
    rows = index.to_pylist()
    assert [row["clip_id"] for row in rows] == [
        *(f"train/Zoë & Co. - Don't/{stem}" for stem in ("drums", "bass", "other", "vocals")),
        *(f"test/A - B/{stem}" for stem in ("drums", "bass", "other", "vocals")),
    ]
    assert rows[1] == {
        "clip_id": "train/Zoë & Co. - Don't/bass",
        "recording": "train/Zoë & Co. - Don't",
        "media_path": f"{tmp_path}/train/Zoë & Co. - Don't/bass.wav",
        "audio_track": 0,
        "pictures": [],
        "labels": ["bass"],
        "class_ids": [0],
        "split": "train",
        "group": "train/Zoë & Co. - Don't",
        "role": "bass",
        "partner": None,
        "boxes": None,
        "mask_path": None,
        "nominal_seconds": pytest.approx(0.5, abs=0.01),
        "nominal_pictures": None,
        "problem": None,
    }
    assert notes(index) == ["train/: 1 of the release's 100 songs", "test/: 1 of the release's 50 songs"]


def test_the_tracks_of_a_stem_mp4_are_named_as_they_sound(tmp_path):
    hertz = {"mixture": 200, "drums": 400, "bass": 600, "other": 800, "vocals": 1000}
    (tmp_path / "test").mkdir()
    with av.open(str(tmp_path / "test" / "A - B.stem.mp4"), "w") as container:
        tracks = [container.add_stream("aac", rate=RATE, layout="mono") for _ in hertz]
        for track, frequency in zip(tracks, hertz.values(), strict=True):
            sound = 0.3 * np.sin(2 * np.pi * frequency * np.arange(2 * RATE) / RATE)
            frame = av.AudioFrame.from_ndarray(sound.astype(np.float32)[None], "fltp", layout="mono")
            frame.rate, frame.pts = RATE, 0
            container.mux(track.encode(frame))
            container.mux(track.encode())
    index = index_musdb18(str(tmp_path))
    assert set(index["media_path"].to_pylist()) == {f"{tmp_path}/test/A - B.stem.mp4"}
    assert set(index["nominal_seconds"].to_pylist()) == {TYPICAL_SECONDS}
    for row in index.to_pylist():
        clip = decode_clip(row["media_path"], sample_rate_hz=RATE, audio_track=row["audio_track"], num_frames=0)
        spectrum = np.abs(np.fft.rfft(clip.audio[:RATE].astype(float)))
        assert np.argmax(spectrum) == pytest.approx(hertz[row["role"]], abs=2), row["role"]
    assert notes(index)[0] == "train/ is not there"
    assert "test/: the mixture differs slightly from the sum of the stems in each .stem.mp4: 1 songs" in notes(index)


def test_both_forms_may_lie_in_one_root_but_not_the_same_song_in_both(tmp_path):
    make_song(tmp_path / "train", "B - Folder")
    make_coded(tmp_path / "train", "A - Coded")
    index = index_musdb18(str(tmp_path))
    assert index["group"].to_pylist() == ["train/A - Coded"] * 4 + ["train/B - Folder"] * 4
    assert index["audio_track"].to_pylist() == [1, 2, 3, 4, 0, 0, 0, 0]
    make_coded(tmp_path / "train", "B - Folder")
    with pytest.raises(UsageError, match=r"train holds 'B - Folder' as a folder and as B - Folder\.stem\.mp4"):
        index_musdb18(str(tmp_path))


def test_a_stem_that_is_not_there_is_a_row_with_a_problem(tmp_path):
    make_song(tmp_path / "train", "whole")
    make_song(tmp_path / "train", "half", ("mixture", "vocals", "bass"))
    make_song(tmp_path / "train", "none", ())
    problems = {row["clip_id"]: row["problem"] for row in index_musdb18(str(tmp_path)).to_pylist()}
    assert len(problems) == 12
    missing = [clip_id for clip_id, problem in problems.items() if problem == "missing file"]
    assert missing == ["train/half/drums", "train/half/other", *(f"train/none/{s}" for s in HQ[1:])]
    assert sum(problem is None for problem in problems.values()) == 6


def test_what_is_left_out_is_counted(tmp_path):
    make_song(tmp_path / "train", "A - B", (*HQ, "accompaniment"))
    (tmp_path / "train" / "LICENSE.txt").touch()
    (tmp_path / "train" / "._A - B.stem.mp4").touch()
    for name in (b"caf\xe9 - x", b"\xff - y"):
        os.mkdir(os.fsencode(tmp_path / "train") + b"/" + name)  # noqa: PTH102
    (tmp_path / "test").mkdir()
    index = index_musdb18(str(tmp_path))
    assert len(index) == 4
    assert notes(index) == [
        "train/: 1 of the release's 100 songs",
        "train/: left out, the name is not UTF-8 (rename it): 2",
        "train/: left out, no song: 2, as '._A - B.stem.mp4'",
        "train/: left out, in a song's folder but no stem: 1, as 'A - B/accompaniment.wav'",
        "test/ is empty",
    ]


def test_a_root_without_songs_is_refused_with_what_was_found(tmp_path):
    with pytest.raises(UsageError, match=r"no song: train/ is not there; test/ is not there\. Expected train/ and"):
        index_musdb18(str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(UsageError, match="no song: train/ is empty; test/ is not there"):
        index_musdb18(str(tmp_path))
    with pytest.raises(UsageError, match=r"cannot list .*nowhere"):
        index_musdb18(str(tmp_path / "nowhere"))


def test_the_length_of_a_wav_comes_from_its_head_also_behind_other_chunks_or_if_cut_short(tmp_path):
    write_wav(tmp_path / "plain.wav", seconds=3.0)
    plain = (tmp_path / "plain.wav").read_bytes()
    junk = b"JUNK" + (28).to_bytes(4, "little") + bytes(28)
    for name, data in {"plain": plain, "junk": plain[:12] + junk + plain[12:], "cut": plain[:9000]}.items():
        (tmp_path / f"{name}.wav").write_bytes(data)
        assert wav_seconds(str(tmp_path / f"{name}.wav")) == pytest.approx(3.0, abs=0.01), name
    untold = {"empty": b"", "html": b"<html>fmt " + bytes(99), "zero": plain[:28] + bytes(99)}
    untold["streamed"] = plain[:4] + b"\xff\xff\xff\xff" + plain[8:]
    for name, data in untold.items():
        (tmp_path / f"{name}.wav").write_bytes(data)
        assert wav_seconds(str(tmp_path / f"{name}.wav")) is None, name
    (tmp_path / "link.wav").symlink_to(tmp_path / "nowhere.wav")
    assert wav_seconds(str(tmp_path / "link.wav")) is None


def test_a_song_lasts_as_long_as_its_first_stem_that_tells(tmp_path):
    make_song(tmp_path / "train", "A - B", ("vocals",))
    make_song(tmp_path / "train", "C - D", ())
    (tmp_path / "train" / "A - B" / "drums.wav").touch()
    seconds = index_musdb18(str(tmp_path))["nominal_seconds"].to_pylist()
    assert seconds == [pytest.approx(0.5, abs=0.01)] * 4 + [TYPICAL_SECONDS] * 4
