"""The mean spectra of classes: of which clips they are, that each weighs as much, and that they are measured once."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest

from cocktail.audio.class_spectra import ClassSpectra, num_bins_at, power_shares
from cocktail.storage import StorageError
from cocktail.types import UsageError
from pipelines.datasets.index import IndexRow, make_index
from pipelines.describe import spectra as measuring
from pipelines.describe import tables
from pipelines.describe.counts import by_centre, power_quantiles_hz, spectra_csv
from pipelines.describe.figures import RANGE_DB, spectra_figure
from pipelines.describe.spectra import class_spectra, clips_to_measure, measure_shard, spectra_key
from pipelines.describe.tables import describe, spectra_table
from pipelines.shards import on_cluster
from pipelines.shards.manifest import Manifest
from pipelines.shards.reader import ClipReader, ClipSource
from tests.made.corpora.toy_shards import RATE, toy_clip, write_shards

CLASSES = ("bell", "drum", "harp")
SILENCE_DBFS = -60.0


def tone(frequency_hz: float, level: float = 8000, seconds: float = 3.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.rint(level * np.sin(2 * math.pi * frequency_hz * time)).astype("<i2")


BELL_A, BELL_B, DRUM = tone(300, level=300), tone(400, level=20000), tone(50)


def make_shards(folder: Path) -> Manifest:
    """Two shards of training, one of testing: two bells of unlike levels, a drum, and what is not to be measured."""
    clips = {
        "train-00000": [("bell-a", ("bell",), BELL_A), ("both", ("bell", "drum"), tone(123))],
        "train-00001": [
            ("bell-b", ("bell",), BELL_B),
            ("drum", ("drum",), DRUM),
            ("none", (), tone(123)),
            ("hushed", ("drum",), tone(123, level=3)),
            ("short", ("drum",), tone(123, seconds=0.9)),
        ],
        "test-00002": [("harp", ("harp",), tone(123)), ("bell-c", ("bell",), tone(123))],
    }
    shards = {}
    for shard, of_shard in clips.items():
        split = shard.partition("-")[0]
        shards[shard] = []
        for name, labels, sound in of_shard:
            row = IndexRow(clip_id=name, recording=name, media_path="", labels=labels, split=split, nominal_seconds=3.0)
            shards[shard].append((make_index([row], CLASSES).to_pylist()[0], toy_clip(sound)))
    return write_shards(folder, shards, CLASSES)


@pytest.fixture
def here(monkeypatch):
    """Runs the tasks in this process, the last shard first; counts them."""
    calls = []

    def map_here(rows, fn, fn_kwargs, num_tasks, advice, *, folder):
        for row in rows.to_pylist()[::-1]:
            calls.append(row["shard"])
            yield fn(row, **fn_kwargs)

    monkeypatch.setattr(measuring, "map_on_cluster", map_here)
    return calls


def measured(manifest: Manifest, folder: Path, split: str = "train", connected: list | None = None):
    connect = (connected if connected is not None else []).append
    source = ClipSource.of(manifest)
    return class_spectra(manifest, split, SILENCE_DBFS, str(folder), source, lambda: connect("connected"))


def test_only_clips_of_one_class_that_sound_for_a_second_are_measured(tmp_path):
    manifest = make_shards(tmp_path)

    def chosen(split: str, silence_dbfs: float = SILENCE_DBFS) -> list:
        clips = clips_to_measure(manifest, split, silence_dbfs)
        return list(zip(clips["clip_id"].to_pylist(), clips["class_id"].to_pylist(), strict=True))

    assert chosen("train") == [("bell-a", 0), ("bell-b", 0), ("drum", 1)]
    assert chosen("train", -100) == [("bell-a", 0), ("bell-b", 0), ("drum", 1), ("hushed", 1)]
    assert chosen("test") == [("harp", 2), ("bell-c", 0)]
    assert chosen("validation") == []
    parts = [chosen("train[:50%]"), chosen("train[50%:]")]
    assert all(parts) and sorted(parts[0] + parts[1]) == chosen("train")
    with pytest.raises(UsageError, match="is no split"):
        chosen("train[")


def test_a_class_has_the_mean_of_its_clips_each_of_one_weight_however_loud(tmp_path, here):
    spectra = measured(make_shards(tmp_path / "shards"), tmp_path)
    assert spectra is not None and here == ["train-00001.tar", "train-00000.tar"]
    assert (spectra.num_clips.tolist(), spectra.sample_rate_hz) == ([2, 1, 0], RATE)
    expected = [(power_shares(BELL_A, RATE) + power_shares(BELL_B, RATE)) / 2, power_shares(DRUM, RATE)]
    np.testing.assert_allclose(spectra.power[:2], expected, atol=1e-7)
    assert spectra.power[2].tolist() == [0] * num_bins_at(RATE)


def test_they_are_measured_once_and_the_same_in_any_order(tmp_path, here, monkeypatch):
    manifest, connected = make_shards(tmp_path / "shards"), []
    first = measured(manifest, tmp_path, connected=connected)
    again = measured(manifest, tmp_path, connected=connected)
    assert first is not None and again is not None
    assert first.power.tobytes() == again.power.tobytes()
    assert (len(here), connected) == (2, ["connected"])
    backwards = measuring.map_on_cluster
    monkeypatch.setattr(measuring, "map_on_cluster", lambda rows, *rest, **more: backwards(rows[::-1], *rest, **more))
    ordered = measured(manifest, tmp_path / "elsewhere")
    assert ordered is not None and ordered.power.tobytes() == first.power.tobytes()
    assert here[2:] == here[1::-1]


def test_what_decides_them_decides_the_name_that_they_are_kept_under(tmp_path):
    manifest, other = make_shards(tmp_path / "a"), make_shards(tmp_path / "b")
    names = [spectra_key(manifest, split, dbfs) for split in ("train", "train[5%:]") for dbfs in (-60.0, -50.0)]
    assert len({*names}) == 4
    assert spectra_key(other, "train", -60.0) == names[0], "of the same bytes elsewhere"


def test_a_kept_file_that_is_damaged_is_refused_by_name(tmp_path, here):
    manifest = make_shards(tmp_path / "shards")
    measured(manifest, tmp_path)
    (kept,) = tmp_path.glob("class-spectra-*.json")
    for text in ("{", "{}", kept.read_text().replace('"num_clips": [2', '"num_clips": [0')):
        kept.write_text(text)
        with pytest.raises(UsageError, match=rf"{kept.name} .*: delete it, and it is measured again"):
            measured(manifest, tmp_path)


def test_a_kept_file_that_cannot_be_read_now_is_not_to_be_deleted(tmp_path, here):
    manifest = make_shards(tmp_path / "shards")
    measured(manifest, tmp_path)
    (kept,) = tmp_path.glob("class-spectra-*.json")
    kept.unlink()
    kept.mkdir()  # as good as a disk that fails
    with pytest.raises(StorageError, match=f"cannot read .*{kept.name}") as caught:
        measured(manifest, tmp_path)
    assert "delete it" not in str(caught.value)


def test_a_damaged_clip_is_named_and_left_out_and_nothing_is_kept_then(tmp_path, here, capsys):
    manifest = make_shards(tmp_path / "shards")
    row = next(row for row in manifest.table.to_pylist() if row["clip_id"] == "bell-b")
    with (tmp_path / "shards" / row["shard"]).open("r+b") as tar:
        tar.seek(row["audio_offset"] + 100)
        tar.write(b"\x55\xaa")
    spectra = measured(manifest, tmp_path)
    assert spectra is not None and spectra.num_clips.tolist() == [1, 1, 0]
    np.testing.assert_allclose(spectra.power[0], power_shares(BELL_A, RATE), atol=1e-7)
    assert "left out of the mean spectra of classes: " in (said := capsys.readouterr().out)
    assert "clip bell-b is damaged" in said
    assert not list(tmp_path.glob("class-spectra-*.json"))


def test_a_split_without_such_clips_has_spectra_of_no_class_and_needs_no_cluster(tmp_path, here):
    connected = []
    spectra = measured(make_shards(tmp_path / "shards"), tmp_path, "validation", connected)
    assert spectra is not None and spectra.num_clips.tolist() == [0, 0, 0]
    assert (here, connected) == ([], [])


def test_more_classes_than_can_be_kept_have_none_and_that_is_said(tmp_path, here, monkeypatch, capsys):
    monkeypatch.setattr(measuring, "MOST_VALUES", 3 * num_bins_at(RATE) - 1)
    assert measured(make_shards(tmp_path / "shards"), tmp_path) is None
    assert "no mean spectra of classes: 3 at 1000 Hz are more than can be kept" in capsys.readouterr().out


def test_on_a_cluster_they_are_the_same_with_a_damaged_shard_too(tmp_path, here, local_ray, monkeypatch):
    manifest = make_shards(tmp_path / "shards")
    alone = measured(manifest, tmp_path)
    monkeypatch.undo()
    together = measured(manifest, tmp_path / "elsewhere")
    assert alone is not None and together is not None
    assert together.power.tobytes() == alone.power.tobytes()
    tar = tmp_path / "shards" / "train-00000.tar"
    tar.write_bytes(bytes(len(tar.read_bytes())))
    damaged = measured(manifest, tmp_path / "anew")
    assert damaged is not None and damaged.num_clips.tolist() == [1, 1, 0]


def test_a_shard_is_summed_in_whole_numbers(tmp_path):
    manifest = make_shards(tmp_path)
    rows = measuring._by_shard(clips_to_measure(manifest, "train", SILENCE_DBFS)).to_pylist()
    assert [row["shard"] for row in rows] == ["train-00000.tar", "train-00001.tar"]
    found = measure_shard(rows[1], ClipSource.of(manifest))
    sums = np.frombuffer(found["sums"], np.int64).reshape(2, -1)
    assert (found["class_ids"], found["num_clips"], found["damaged"]) == ([0, 1], [1, 1], [])
    np.testing.assert_allclose(sums.sum(axis=1) / measuring._UNIT, 1, atol=1e-9)


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_a_clip_is_measured_some_seconds_at_a_time_and_comes_to_the_same(tmp_path, monkeypatch, audio_format):
    sound = np.concatenate([tone(frequency, seconds=4) for frequency in (50, 130, 300)])[:-345]
    row = IndexRow(clip_id="long", recording="", media_path="", labels=("bell",), split="train", nominal_seconds=12)
    shard = [(make_index([row], CLASSES).to_pylist()[0], toy_clip(sound))]
    manifest = write_shards(tmp_path, {"train-00000": shard}, CLASSES, audio_format=audio_format)
    (row,) = measuring._by_shard(clips_to_measure(manifest, "train", SILENCE_DBFS)).to_pylist()
    read, lengths = ClipReader.sound, []

    def noticed(reader, clip, start, count, checks):
        lengths.append(count)
        return read(reader, clip, start, count, checks)

    monkeypatch.setattr(ClipReader, "sound", noticed)
    monkeypatch.setattr(measuring, "_SECONDS_AT_ONCE", {audio_format: 5})
    sums = np.frombuffer(measure_shard(row, ClipSource.of(manifest))["sums"], np.int64)
    assert lengths == [5 * RATE, 5 * RATE, 2 * RATE - 345]
    assert sums.tolist() == np.rint(power_shares(sound, RATE) * measuring._UNIT).astype(np.int64).tolist()


def measure_until_killed(row, source, run):
    """Measure a shard as a task does that the system ends at its second clip."""

    def at_the_second(pieces, rate):
        calls.append(rate)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(pieces, rate)

    calls, whole = [], measuring.power_shares_of_pieces
    measuring.power_shares_of_pieces = at_the_second
    measure_shard(row, source, run)


def test_a_run_whose_tasks_are_killed_at_one_clip_ends_with_its_name_and_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(on_cluster, "MAX_DEATHS", 1)
    manifest = make_shards(tmp_path / "shards")
    source = ClipSource.of(manifest)
    _, row = measuring._by_shard(clips_to_measure(manifest, "train", SILENCE_DBFS)).to_pylist()
    process = multiprocessing.get_context("fork").Process(target=measure_until_killed, args=(row, source, "this"))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert on_cluster.in_hand(source.folder, [row["shard"]], "this") == {row["shard"]: "drum"}
    with pytest.raises(UsageError, match=r"^drum: .* ended the task that reads it 1 times in a row.*\. Give it more$"):
        measure_shard(row, source, "this", "Give it more")
    assert measure_shard(row, source, "another")["num_clips"] == [1, 1]


def test_a_class_of_nothing_but_0_hz_is_drawn_without_a_level(recwarn):
    power = np.zeros((2, num_bins_at(RATE)), np.float32)
    power[0, 0] = power[1, 3] = 1
    spectra = ClassSpectra(sample_rate_hz=RATE, power=power, num_clips=np.array([1, 1]))
    axis = spectra_figure(spectra, CLASSES[:2]).axes[0]
    levels = np.asarray(axis.collections[0].get_array()).reshape(2, -1)
    assert levels.max(axis=1).tolist() == [-RANGE_DB, 0] and not recwarn


def test_tables_and_figure_have_the_classes_that_were_measured_those_of_low_sound_first(tmp_path, here):
    spectra = measured(make_shards(tmp_path / "shards"), tmp_path)
    assert spectra is not None
    spacing_hz = spectra.frequencies_hz[1]
    assert by_centre(spectra) == [1, 0, 2]
    quantiles = power_quantiles_hz(spectra, [0.25, 0.75])
    assert quantiles[0] == pytest.approx([300, 400], abs=2 * spacing_hz)
    assert np.isnan(quantiles[2]).all()
    table = spectra_table(spectra, CLASSES, "train")
    assert [row[:2] for row in table.rows] == [("drum", "1"), ("bell", "2")]
    assert float(table.rows[0][3]) == pytest.approx(50, abs=2 * spacing_hz)
    lines = spectra_csv(spectra, CLASSES).decode().splitlines()
    assert [line.split(",")[:3] for line in lines] == [
        ["class", "class_id", "clips"], ["bell", "0", "2"], ["drum", "1", "1"], ["harp", "2", "0"]
    ]  # fmt: skip
    assert [float(cell) for cell in lines[2].split(",")[3:]] == pytest.approx(spectra.power[1].tolist(), rel=1e-4)
    axis = spectra_figure(spectra, CLASSES).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["drum", "bell"]
    levels = np.asarray(axis.collections[0].get_array()).reshape(2, -1)
    assert spectra.frequencies_hz[1:][levels[0].argmax()] == pytest.approx(50, abs=spacing_hz)
    assert levels[0].max() == 0


def test_a_description_shows_them_of_the_split_that_is_asked_for(tmp_path, here, monkeypatch, capsys):
    manifest, connected = make_shards(tmp_path), []
    monkeypatch.setattr(tables, "connect", lambda: connected.append("connected"))
    describe(manifest.folder, None, num_clips=0, seed=0, spectra_split="train")
    said = capsys.readouterr().out
    assert "mean spectra of 2 classes over 3 clips of train" in said and connected == ["connected"]
    assert "Power of classes by frequency, in Hz (train)" in said
    for name in ("spectra.csv", "spectra.png"):
        assert f"{tmp_path}/describe/{name}" in said and (tmp_path / "describe" / name).stat().st_size > 500
    assert len(list((tmp_path / "describe").glob("class-spectra-*.json"))) == 1
    describe(manifest.folder, None, num_clips=0, seed=0, spectra_split="test")
    assert "| harp  |     1 |" in capsys.readouterr().out
