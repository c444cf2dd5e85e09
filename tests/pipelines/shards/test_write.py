"""Shards hold every planned clip or say why not, whoever writes them, however often it is killed."""

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from webdataset.compat import WebDataset

from cocktail.media.clips import decode_clip
from cocktail.storage import read_bytes, write_atomic
from cocktail.types import UsageError
from pipelines.datasets.index import IndexRow, PictureFile, make_index
from pipelines.datasets.vggsound import index_vggsound
from pipelines.shards.dataset import _check_bad_share, find_committed, finish, shard_dataset
from pipelines.shards.manifest import QUARANTINE_COLUMNS, open_manifest
from pipelines.shards.plan import ShardSettings, plan_shards
from pipelines.shards.sidecars import iterate_sidecars
from pipelines.shards.signed_json import parse_signed, sign
from pipelines.shards.tars import rms_per_second, sample_key
from pipelines.shards.write import write_shard
from tests.made.corpora.miniature_clips import make_corpus

CLIP_MB = 0.225416
"""What a clip of 10 s is taken to need under these settings: its sound is 0.2205 of it."""
SETTINGS = ShardSettings(
    dataset="miniature", shard_mb=6 * CLIP_MB, num_frames=2, picture_short_side=32, max_bad_share=1.0
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    reasons = make_corpus(folder)
    return folder, reasons


@pytest.fixture(scope="module")
def index(corpus):
    folder, _ = corpus
    return index_vggsound(str(folder / "vggsound.csv"), str(folder / "videos"))


def write_all(index, settings, folder):
    plan = plan_shards(index, settings)
    for row in plan.to_pylist():
        write_shard(row, settings, str(folder))
    return finish(plan, settings, str(folder))


@pytest.fixture(scope="module")
def undisturbed(index, tmp_path_factory):
    """The data set as one process writes it, shard by shard."""
    return write_all(index, SETTINGS, tmp_path_factory.mktemp("undisturbed"))


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


def synthetic_index(num_clips, **changes):
    """An index without media: for what is decided before any file is opened. A change is a list, a value a clip."""
    rows = [
        IndexRow(
            clip_id=f"clip{number:05d}",
            **{
                "recording": f"video{number}",
                "media_path": f"/nowhere/{number}",
                "labels": ("thunder",),
                "split": "train",
                "nominal_seconds": 10.0,
            }
            | {name: values[number] for name, values in changes.items()},
        )
        for number in range(num_clips)
    ]
    return make_index(rows, ["thunder"])


def with_problem(index, gone):
    """An index that was made when the file of a clip was not there."""
    problems = ["missing file" if clip_id == gone else None for clip_id in index["clip_id"].to_pylist()]
    merged = [new or old for new, old in zip(problems, index["problem"].to_pylist(), strict=True)]
    column = index.schema.get_field_index("problem")
    return index.set_column(column, index.schema.field(column), pa.array(merged, pa.string()))


def test_every_clip_of_a_split_is_dealt_once_to_shards_of_even_size():
    index = synthetic_index(103, split=["train"] * 90 + ["test"] * 13)
    plan = plan_shards(index, dataclasses.replace(SETTINGS, shard_mb=20 * CLIP_MB))
    assert plan["shard"].to_pylist() == ["test-00000-of-00001", *(f"train-{n:05d}-of-00005" for n in range(5))]
    clips = plan["clips"].to_pylist()
    assert [len(shard) for shard in clips] == [13, 18, 18, 18, 18, 18]
    assert sorted(clip["clip_id"] for shard in clips for clip in shard) == index["clip_id"].to_pylist()
    assert {clip["split"] for clip in clips[0]} == {"test"}
    first_numbers = [int(clip["clip_id"][4:]) for clip in clips[1]]
    assert max(first_numbers) > 60 > 30 > min(first_numbers)  # a random sample, not a run of neighbours


def test_the_deal_is_fixed_for_ever_and_follows_the_seed():
    dealt = [clip["clip_id"] for clip in plan_shards(synthetic_index(8), SETTINGS)["clips"].to_pylist()[0]]
    by_hand = sorted(
        (hashlib.sha256(f'[0,"clip{number:05d}"]'.encode()).hexdigest(), f"clip{number:05d}") for number in range(8)
    )
    assert dealt == [clip_id for _, clip_id in by_hand[:4]]
    other = plan_shards(synthetic_index(8), dataclasses.replace(SETTINGS, seed=1))
    assert [clip["clip_id"] for clip in other["clips"].to_pylist()[0]] != dealt


def test_the_plan_s_hash_names_what_decides_the_bytes_and_nothing_else():
    def hashes(index, **changes):
        plan = plan_shards(index, dataclasses.replace(SETTINGS, **changes))
        return plan["plan_hash"].to_pylist(), plan["deal_hash"].to_pylist()

    index = synthetic_index(12)
    reference = hashes(index)
    assert hashes(index, max_bad_share=0.5) == reference
    assert hashes(synthetic_index(12, media_path=["/elsewhere"] * 12)) == reference
    assert hashes(synthetic_index(12, recording=["another video"] * 12)) == reference
    for changes in ({"sample_rate_hz": 16000}, {"num_frames": 1}, {"seed": 1}, {"min_seconds": 2.0}):
        assert all(set(new).isdisjoint(old) for new, old in zip(hashes(index, **changes), reference, strict=True))
    relabelled = hashes(synthetic_index(12, labels=[("thunder",)] * 11 + [("rain",)]))
    assert set(relabelled[1]).isdisjoint(reference[1])
    mended = hashes(synthetic_index(12, problem=[None] * 11 + ["missing file"]))
    assert mended[1] == reference[1]
    assert len(set(mended[0]) - set(reference[0])) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_rate_hz": 0},
        {"shard_mb": 0.0},
        {"num_tasks": 0},
        {"num_frames": -1},
        {"max_bad_share": 1.5},
        {"min_seconds": 700.0},
    ],
)
def test_settings_that_cannot_be_are_refused(changes):
    with pytest.raises(UsageError, match="expected"):
        dataclasses.replace(SETTINGS, **changes)


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


def test_too_many_bad_clips_fail_with_the_reasons_and_no_manifest(index, undisturbed, tmp_path):
    strict = dataclasses.replace(SETTINGS, max_bad_share=0.5)
    with pytest.raises(UsageError, match=r"22 of 32 clips are bad") as caught:
        write_all(index, strict, tmp_path)
    needed = float(re.findall(r"--max-bad-share ([\d.]+):", str(caught.value))[0])
    assert len(re.findall(r"^ +\d+  (.*)$", str(caught.value).split("of these classes")[0], re.M)) == 10
    with pytest.raises(UsageError, match=r"no manifest.json: sharding did not finish, or too many clips were bad"):
        open_manifest(str(tmp_path))
    tars = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    lenient = dataclasses.replace(SETTINGS, max_bad_share=needed)
    assert write_all(index, lenient, tmp_path).root_hash == undisturbed.root_hash
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")} == tars


def test_a_clip_that_was_missing_is_taken_up_unless_the_data_set_is_finished(index, undisturbed, tmp_path):
    before = with_problem(index, index["clip_id"].to_pylist()[3])
    for row in plan_shards(before, SETTINGS).to_pylist():
        write_shard(row, SETTINGS, str(tmp_path))
    plan = plan_shards(index, SETTINGS)
    assert len(find_committed(plan, SETTINGS, str(tmp_path))) == len(plan) - 1
    assert write_all(index, SETTINGS, tmp_path).root_hash == undisturbed.root_hash
    with pytest.raises(UsageError, match=r"another plan: .* the clips or their files differ"):
        find_committed(plan_shards(before, SETTINGS), SETTINGS, str(tmp_path))


@pytest.fixture
def late(corpus, tmp_path):
    """Six clips, and of two of them a file that is not there, which their index does not know."""
    (tmp_path / "media").mkdir()
    good = sorted(path for path in (corpus[0] / "videos").iterdir() if path.name.startswith("good"))[:6]
    for number, path in enumerate(good):
        shutil.copyfile(path, tmp_path / "media" / f"{number}.mp4")
    Image.new("RGB", (8, 8)).save(tmp_path / "media" / "5.png")
    (tmp_path / "media" / "0.mp4").rename(tmp_path / "late.mp4")
    (tmp_path / "media" / "5.png").rename(tmp_path / "late.png")
    rows = [
        IndexRow(
            clip_id=f"clip{number}",
            recording=f"video{number}",
            media_path=str(tmp_path / "media" / f"{number}.mp4"),
            pictures=(PictureFile(str(tmp_path / "media" / "5.png"), 0.5),) if number == 5 else None,
            labels=("thunder",),
            split="train",
            nominal_seconds=10.0,
        )
        for number in range(6)
    ]
    settings = dataclasses.replace(SETTINGS, shard_mb=2 * CLIP_MB)
    plan = plan_shards(make_index(rows, ["thunder"]), settings)
    (shard_0, shard_5) = (
        row["shard"] for name in ("clip0", "clip5") for row in plan.to_pylist() if name in str(row["clips"])
    )
    assert shard_0 != shard_5
    return plan, settings, tmp_path / "shards", shard_0, shard_5


def write_missing(plan, settings, folder):
    """Write what `find_committed` does not name; return what it names."""
    committed = find_committed(plan, settings, str(folder))
    for row in plan.to_pylist():
        if row["shard"] not in committed:
            write_shard(row, settings, str(folder))
    return committed


def reasons_in(folder):
    quarantine = pq.read_table(folder / "quarantine.parquet").to_pylist()
    return {item["clip_id"]: (item["reason"], item["detail"]) for item in quarantine}


def test_a_file_that_only_sharding_found_missing_is_taken_up_once_it_is_there(late, tmp_path):
    plan, settings, folder, shard_0, shard_5 = late
    assert write_missing(plan, settings, folder) == set()
    with pytest.raises(UsageError, match=r"(?s)2 of 6 clips are bad.*missing file.*taken up by running again"):
        finish(plan, dataclasses.replace(settings, max_bad_share=0.001), str(folder))
    missing = {"clip0": ("missing file", "no file 0.mp4"), "clip5": ("missing file", "no picture 5.png")}
    assert reasons_in(folder) == missing
    assert write_missing(plan, settings, folder) == set(plan["shard"].to_pylist())
    (tmp_path / "late.mp4").rename(tmp_path / "media" / "0.mp4")
    assert write_missing(plan, settings, folder) == set(plan["shard"].to_pylist()) - {shard_0}
    with pytest.raises(UsageError, match="1 of 6"):
        finish(plan, dataclasses.replace(settings, max_bad_share=0.001), str(folder))
    assert reasons_in(folder) == {"clip5": missing["clip5"]}
    (tmp_path / "late.png").rename(tmp_path / "media" / "5.png")
    assert write_missing(plan, settings, folder) == set(plan["shard"].to_pylist()) - {shard_5}
    assert len(finish(plan, dataclasses.replace(settings, max_bad_share=0.0), str(folder)).table) == 6


def test_a_clip_whose_mask_is_not_there_is_set_aside_and_taken_up_once_it_is(late, tmp_path):
    media = tmp_path / "media"
    Image.new("L", (40, 30), 255).save(tmp_path / "late_mask.png")
    rows = [
        IndexRow(
            clip_id=name,
            recording=name,
            media_path=str(media / "1.mp4"),
            mask_path=str(media / f"{name}_mask.png"),
            labels=("thunder",),
            split="test",
            nominal_seconds=10.0,
        )
        for name in ("with", "without")
    ]
    shutil.copy(tmp_path / "late_mask.png", media / "with_mask.png")
    settings = dataclasses.replace(SETTINGS, num_frames=1)
    plan, folder = plan_shards(make_index(rows, ["thunder"]), settings), tmp_path / "masked"
    write_missing(plan, settings, folder)
    manifest = finish(plan, settings, str(folder))
    assert manifest.table["clip_id"].to_pylist() == ["with"]
    assert manifest.table["mask_bytes"][0].as_py() > 0
    assert reasons_in(folder) == {"without": ("missing file", "no mask without_mask.png")}
    (folder / "manifest.json").unlink()
    (tmp_path / "late_mask.png").rename(media / "without_mask.png")
    write_missing(plan, settings, folder)
    assert set(finish(plan, settings, str(folder)).table["clip_id"].to_pylist()) == {"with", "without"}


def test_a_finished_data_set_stays_as_it_is_when_a_missing_file_comes(late, tmp_path):
    plan, settings, folder, *_ = late
    write_missing(plan, settings, folder)
    finish(plan, settings, str(folder))
    (tmp_path / "late.mp4").rename(tmp_path / "media" / "0.mp4")
    assert find_committed(plan, settings, str(folder)) == set(plan["shard"].to_pylist())


def test_a_file_that_the_system_does_not_read_stops_the_run_by_name_and_is_no_verdict(late, tmp_path):
    plan, settings, folder, shard_0, _ = late
    row = next(row for row in plan.to_pylist() if row["shard"] == shard_0)
    (tmp_path / "media" / "0.mp4").mkdir()
    with pytest.raises(UsageError, match=rf"cannot read {tmp_path}/media/0.mp4: Is a directory"):
        write_shard(row, settings, str(folder))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("finished", [True, False])
def test_shards_of_another_plan_are_not_touched(index, undisturbed, tmp_path, finished):
    for path in Path(undisturbed.folder).iterdir():
        if finished or path.suffix != ".parquet":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    before = contents(tmp_path)
    other = dataclasses.replace(SETTINGS, sample_rate_hz=16000)
    with pytest.raises(
        UsageError, match=r"another plan: in .* sample_rate_hz is 11025, not 16000. Give another --shards"
    ):
        shard_dataset(index, other, str(tmp_path))
    fewer = index.slice(0, 20)
    with pytest.raises(UsageError, match=r"another plan"):
        shard_dataset(fewer, SETTINGS, str(tmp_path))
    assert contents(tmp_path) == before


def test_a_tar_of_unknown_origin_is_not_mixed_with_ours(index, tmp_path):
    (tmp_path / "shard-000000.tar").write_bytes(b"")
    with pytest.raises(UsageError, match=r"shard-000000.tar is not part"):
        shard_dataset(index, SETTINGS, str(tmp_path))


@pytest.mark.parametrize(
    "foreign", [b'{"name": "an app", "icons": []}', b"no JSON", sign({"schema": "cocktail-manifest/1"})]
)
def test_a_manifest_json_of_others_is_not_overwritten(index, tmp_path, foreign):
    (tmp_path / "manifest.json").write_bytes(foreign)
    with pytest.raises(UsageError, match=f"{tmp_path}/manifest.json is not of shards .* Give another --shards folder"):
        shard_dataset(index, SETTINGS, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert (tmp_path / "manifest.json").read_bytes() == foreign


def test_a_manifest_without_recordings_is_refused_until_the_job_that_made_it_has_run_again(
    index, undisturbed, tmp_path, capsys
):
    """As version 2 wrote it; the shards are kept."""
    for path in Path(undisturbed.folder).iterdir():
        shutil.copy2(path, tmp_path / path.name)
    pq.write_table(undisturbed.table.drop_columns(["recording"]), tmp_path / "manifest.parquet")
    document = parse_signed((tmp_path / "manifest.json").read_bytes())
    assert document is not None
    clips_sha256 = hashlib.sha256((tmp_path / "manifest.parquet").read_bytes()).hexdigest()
    older = {**document, "schema": "cocktail-manifest/2", "clips_sha256": clips_sha256}
    (tmp_path / "manifest.json").write_bytes(sign(older))
    with pytest.raises(UsageError, match=r"does not say which recordings .*run the command that made these .* again"):
        open_manifest(str(tmp_path))
    manifest = shard_dataset(index, SETTINGS, str(tmp_path))
    assert manifest.table["recording"].equals(undisturbed.table["recording"])
    assert manifest.root_hash == undisturbed.root_hash
    assert contents(tmp_path) == contents(undisturbed.folder)
    assert "0 clips done now" in capsys.readouterr().out


def test_a_manifest_json_of_ours_that_is_damaged_is_written_again(index, undisturbed, tmp_path):
    for path in Path(undisturbed.folder).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").write_bytes(whole.replace(b'"miniature"', b'"miniatures'))
    shard_dataset(index, SETTINGS, str(tmp_path))
    assert contents(tmp_path) == contents(undisturbed.folder)


def test_a_stricter_run_says_that_the_manifest_of_the_lenient_one_stays(index, undisturbed, tmp_path):
    for path in Path(undisturbed.folder).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match=r"22 of 32 clips are bad") as caught:
        shard_dataset(index, dataclasses.replace(SETTINGS, max_bad_share=0.001), str(tmp_path))
    told = str(caught.value)
    assert "manifest.json that is there, of a run that accepted as many, stays as it is" in told
    assert "taken up by deleting manifest.json and running again" in told
    assert "No manifest" not in told
    assert contents(tmp_path) == contents(undisturbed.folder)


def bad_clips(number):
    item = {"clip_id": "", "labels": [], "split": "train", "shard": "", "reason": "silent", "detail": ""}
    return pa.Table.from_pylist([item] * number, QUARANTINE_COLUMNS)


def test_as_many_bad_clips_as_accepted_are_accepted_and_the_share_that_is_told_is_enough():
    for num_planned, accepted in ((1000, 0.001), (100, 0.29), (7, 3 / 7), (10, 0.0)):
        settings = dataclasses.replace(SETTINGS, max_bad_share=accepted)
        limit = round(num_planned * accepted)
        _check_bad_share(num_planned, bad_clips(limit), settings, False)
        with pytest.raises(UsageError, match=f"{limit + 1} of {num_planned}"):
            _check_bad_share(num_planned, bad_clips(limit + 1), settings, False)
    none = dataclasses.replace(SETTINGS, max_bad_share=0.0)
    for num_planned in (7, 100, 997, 1000):
        for num_bad in range(1, num_planned + 1, 9):
            with pytest.raises(UsageError) as caught:
                _check_bad_share(num_planned, bad_clips(num_bad), none, False)
            needed = float(re.findall(r"--max-bad-share ([\d.]+):", str(caught.value))[0])
            assert needed - num_bad / num_planned < 0.001
            _check_bad_share(num_planned, bad_clips(num_bad), dataclasses.replace(none, max_bad_share=needed), False)


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


def test_opening_says_what_to_do_where_there_are_no_shards_or_others(undisturbed, tmp_path):
    with pytest.raises(UsageError, match=f"no shards at {tmp_path}. Make them with the job of its data set"):
        open_manifest(str(tmp_path))
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(sign({"schema": "cocktail-manifest/0"}))
    with pytest.raises(UsageError, match="another schema: cocktail-manifest/0, this version reads cocktail-manifest/3"):
        open_manifest(str(tmp_path))
    manifest.write_bytes(b"no manifest")
    with pytest.raises(UsageError, match=r"manifest.json is damaged or gone"):
        open_manifest(str(tmp_path))
    manifest.unlink()
    sidecar = parse_signed(next(Path(undisturbed.folder).glob("train-00000*.json")).read_bytes())
    assert sidecar is not None
    (tmp_path / "train-00000-of-00001.index.json").write_bytes(sign(sidecar | {"schema": "cocktail-shard/0"}))
    with pytest.raises(UsageError, match="another schema: cocktail-shard/0"):
        find_committed(plan_shards(synthetic_index(3), SETTINGS), SETTINGS, str(tmp_path))


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
