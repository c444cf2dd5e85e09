"""Shards hold every planned clip or say why not, whoever writes them, however often it is killed."""

import hashlib
import io
import json
import os
import re
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from webdataset.compat import WebDataset

from cocktail.media.clips import decode_clip
from cocktail.storage import read_bytes, write_atomic
from cocktail.types import UsageError
from pipelines.shards.dataset import find_committed, finish, shard_dataset
from pipelines.shards.plan import plan_shards
from pipelines.shards.sidecars import iterate_sidecars
from pipelines.shards.signed_json import parse_signed, sign
from pipelines.shards.tars import rms_per_second, sample_key
from pipelines.shards.write import write_shard
from tests.made.corpora.miniature_shards import SETTINGS, contents, with_problem, write_all


def test_planned_is_good_plus_quarantined_and_every_reason_is_the_right_one(undisturbed, corpus, index):
    _, reasons = corpus
    quarantine = pq.read_table(f"{undisturbed.folder}/quarantine.parquet").to_pylist()
    assert {item["clip_id"]: item["reason"] for item in quarantine} == reasons
    assert len(quarantine) == len(reasons)
    good = undisturbed.table["clip_id"].to_pylist()
    assert sorted(good) == sorted(set(index["clip_id"].to_pylist()) - (set(reasons) - set(good)))
    assert len(good) == 10
    counts = ("planned", "good", "quarantined")
    assert [int(undisturbed.metadata[name]) for name in counts] == [len(index), 10, len(reasons)]
    assert undisturbed.classes == ("bird chirping, tweeting", "donkey, ass braying", "thunder")
    assert (undisturbed.dataset, undisturbed.sample_rate_hz) == ("miniature", 11025)


def test_offsets_lead_to_the_decoded_samples_and_pictures(undisturbed, index):
    paths = dict(zip(index["clip_id"].to_pylist(), index["media_path"].to_pylist(), strict=True))
    labels = dict(zip(index["clip_id"].to_pylist(), index["labels"].to_pylist(), strict=True))
    rows = undisturbed.table.to_pylist()
    assert [(row["shard"], row["audio_offset"]) for row in rows] == sorted(
        (row["shard"], row["audio_offset"]) for row in rows
    )
    for row in rows:
        clip = decode_clip(paths[row["clip_id"]], sample_rate_hz=11025, num_frames=2, picture_short_side=32)
        file = os.open(f"{undisturbed.folder}/{row['shard']}", os.O_RDONLY)
        pcm = os.pread(file, 2 * row["num_samples"], row["audio_offset"])
        pictures = [
            os.pread(file, size, offset) for offset, size in zip(row["frame_offsets"], row["frame_sizes"], strict=True)
        ]
        os.close(file)
        assert np.array_equal(np.frombuffer(pcm, "<i2"), clip.audio)
        assert tuple(pictures) == clip.pictures
        assert [undisturbed.classes[n] for n in row["class_ids"]] == row["labels"] == labels[row["clip_id"]]
        assert row["duration"] == len(clip.audio) / 11025
        assert len(row["rms"]) == 2


def test_a_plain_webdataset_reads_every_sample(undisturbed, index):
    paths = dict(zip(index["clip_id"].to_pylist(), index["media_path"].to_pylist(), strict=True))
    urls = sorted(str(path) for path in Path(undisturbed.folder).glob("*.tar"))
    reader: Any = WebDataset(urls, shardshuffle=False).decode("pil")
    samples = list(reader)
    assert len(samples) == len(undisturbed.table)
    for sample, row in zip(samples, undisturbed.table.to_pylist(), strict=True):
        assert {"wav", "0.jpg", "1.jpg", "json"} <= set(sample)
        assert sample["0.jpg"].size == (43, 32)
        described = sample["json"]
        assert (described["clip_id"], described["num_samples"]) == (row["clip_id"], row["num_samples"])
        assert described["rms"] == pytest.approx(row["rms"], abs=1e-6)
        assert described["source_sha256"] == hashlib.sha256(Path(paths[row["clip_id"]]).read_bytes()).hexdigest()


def test_two_tasks_at_once_write_the_same_bytes_as_one_process(local_ray, index, undisturbed, tmp_path, capsys):
    manifest = shard_dataset(index, SETTINGS, str(tmp_path))
    assert contents(tmp_path) == contents(undisturbed.folder)
    assert manifest.root_hash == undisturbed.root_hash
    printed = capsys.readouterr().out
    assert f"planned {len(index)}, good 10, quarantined {len(index) - 10}" in printed
    assert re.search(r"\n +4  truncated\n", printed)


def test_running_again_writes_nothing(index, undisturbed, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in Path(undisturbed.folder).iterdir()}
    monkeypatch.setattr("pipelines.shards.write.decode_clip", None)
    again = write_all(index, SETTINGS, undisturbed.folder)
    assert shard_dataset(index, SETTINGS, undisturbed.folder).root_hash == again.root_hash == undisturbed.root_hash
    assert {path: path.stat().st_mtime_ns for path in Path(undisturbed.folder).iterdir()} == before


def test_a_shard_whose_writer_was_killed_is_written_again(index, undisturbed, tmp_path):
    plan = plan_shards(index, SETTINGS)
    rows = plan.to_pylist()
    write_shard(rows[0], SETTINGS, str(tmp_path))
    (tmp_path / (rows[1]["shard"] + ".tar")).write_bytes(b"half a tar")  # no sidecar: not committed
    left = f".{rows[2]['shard']}.tar.{socket.gethostname()}.99999999999.cocktail-tmp"  # of no living process
    (tmp_path / left).write_bytes(b"left behind")
    assert find_committed(plan, SETTINGS, str(tmp_path)) == {rows[0]["shard"]}
    with pytest.raises(UsageError, match="lacks 6 of 7 shards"):
        finish(plan, SETTINGS, str(tmp_path))
    write_all(index, SETTINGS, tmp_path)
    assert contents(tmp_path) == contents(undisturbed.folder)


def test_the_sidecar_is_written_after_the_tar(index, tmp_path, monkeypatch):
    plan = plan_shards(index, SETTINGS)
    row = plan.to_pylist()[0]

    def die_at_the_sidecar(location, data):
        if location.endswith(".json"):
            raise KeyboardInterrupt
        write_atomic(location, data)

    monkeypatch.setattr("pipelines.shards.write.write_atomic", die_at_the_sidecar)
    with pytest.raises(KeyboardInterrupt):
        write_shard(row, SETTINGS, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [row["shard"] + ".tar"]
    assert find_committed(plan, SETTINGS, str(tmp_path)) == set()


def test_a_mended_shard_whose_writer_was_killed_counts_as_written_for_no_plan(index, tmp_path, monkeypatch):
    mended = plan_shards(index, SETTINGS).to_pylist()[0]
    shard = mended["shard"]
    gone = next(clip["clip_id"] for clip in mended["clips"] if clip["problem"] is None)
    before = plan_shards(with_problem(index, gone), SETTINGS)
    write_shard(before.to_pylist()[0], SETTINGS, str(tmp_path))
    assert find_committed(before, SETTINGS, str(tmp_path)) == {shard}

    def die(location, data):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.shards.write.write_atomic", die)
    with pytest.raises(KeyboardInterrupt):
        write_shard(mended, SETTINGS, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [f"{shard}.tar"]
    assert find_committed(before, SETTINGS, str(tmp_path)) == set()


def test_a_sidecar_that_does_not_account_for_its_clips_is_refused(index, undisturbed, tmp_path):
    for path in Path(undisturbed.folder).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    sidecar_path = next(tmp_path.glob("train-00001*.json"))
    sidecar = json.loads(sidecar_path.read_text())
    sidecar["quarantined" if sidecar["quarantined"] else "samples"].pop()
    del sidecar["document_sha256"]
    sidecar_path.write_bytes(sign(sidecar))
    with pytest.raises(UsageError, match=f"{sidecar_path.name} accounts for .* delete that file and run again"):
        finish(plan_shards(index, SETTINGS), SETTINGS, str(tmp_path))


def test_sidecars_are_read_twice_at_most_and_parsed_one_at_a_time(index, undisturbed, monkeypatch):
    reads, parsed = Counter(), []

    def counting_read(location, most_bytes):
        reads[location] += 1
        return read_bytes(location)

    def counting_parse(data):
        parsed.append(data)
        return parse_signed(data)

    monkeypatch.setattr("pipelines.shards.sidecars.read_bounded", counting_read)
    monkeypatch.setattr("pipelines.shards.sidecars.parse_signed", counting_parse)
    shard_dataset(index, SETTINGS, undisturbed.folder)
    names = [path.name for path in Path(undisturbed.folder).glob("*.index.json")]
    assert reads == {f"{undisturbed.folder}/{name}": 2 for name in names}
    parsed.clear()
    reads.clear()
    sidecars = iterate_sidecars(undisturbed.folder, names * 20)
    for number, name in enumerate(names):
        assert next(sidecars)["name"] + ".index.json" == name
        assert len(parsed) == number + 1
    assert sum(reads.values()) < 3 * len(names)


def test_keys_are_plain_short_and_different():
    assert sample_key("-aZ_9_000030") == "-aZ_9_000030"
    odd = ["a.b", "a_b", "a/b", "../a", "é" * 300, "a" * 300, "a" * 299]
    keys = [sample_key(clip_id) for clip_id in odd]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", key) for key in keys)
    assert len(set(keys)) == len(odd)


def test_rms_is_of_each_second_and_of_what_is_left():
    audio = np.concatenate([np.full(10, 16384), np.tile([-8192, 8192], 5), np.full(3, 32767)]).astype(np.int16)
    assert rms_per_second(audio, 10) == pytest.approx([0.5, 0.25, 32767 / 32768], abs=1e-6)


def test_pictures_are_as_small_as_asked_for(undisturbed):
    row = undisturbed.table.to_pylist()[0]
    data = Path(undisturbed.folder, row["shard"]).read_bytes()
    start, size = row["frame_offsets"][1], row["frame_sizes"][1]
    assert Image.open(io.BytesIO(data[start : start + size])).size == (43, 32)
