"""A data set goes from an object store into shards in it, and mixtures come out of them, all without a local folder."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from cocktail.config.mixing import Mixing
from cocktail.storage import list_names, read_bytes, write_atomic
from cocktail.types import UsageError
from pipelines.datasets.vggsound import index_vggsound
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.plan import plan_epoch
from pipelines.plans.pool import usable_clips
from pipelines.shards.dataset import finish, shard_dataset
from pipelines.shards.plan import ShardSettings, plan_shards
from pipelines.shards.reader import ClipReader, ClipSource, DamagedMemberError, read_frame
from pipelines.shards.verify import verify_shard
from pipelines.shards.write import write_shard
from tests.made.corpora.miniature_clips import make_corpus, tone, write_clip
from tests.services.s3_server import failing_proxy, point_to, s3_server

SETTINGS = ShardSettings(dataset="miniature", shard_mb=1.4, picture_short_side=32, max_bad_share=1.0)
RELEASED = "s3://bucket/released"
SHARDS = "s3://bucket/shards"


@pytest.fixture
def s3(monkeypatch):
    with s3_server(monkeypatch) as address:
        yield address


def upload(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name.isascii():
            write_atomic(f"{RELEASED}/{path.relative_to(folder)}", path.read_bytes())


def write_all(index, folder):
    plan = plan_shards(index, SETTINGS)
    for row in plan.to_pylist():
        write_shard(row, SETTINGS, folder)
    return finish(plan, SETTINGS, folder)


def test_shards_in_a_store_are_those_on_a_disk_and_mixtures_come_out(s3, monkeypatch, tmp_path):
    reasons = make_corpus(tmp_path / "released", num_good=4)
    upload(tmp_path / "released")
    local = index_vggsound(str(tmp_path / "released/vggsound.csv"), str(tmp_path / "released/videos"))
    remote = index_vggsound(f"{RELEASED}/vggsound.csv", f"{RELEASED}/videos")
    with failing_proxy(s3, fail_every=20) as (address, counts):
        point_to(address, monkeypatch)
        manifest = write_all(remote, SHARDS)
        assert counts[1] > 0
    point_to(s3, monkeypatch)
    on_disk = write_all(local, str(tmp_path / "shards"))
    assert len(manifest.table) == len(on_disk.table) == 4
    assert int(manifest.metadata["quarantined"]) == len(reasons)
    # A name that is no text cannot be in a store: there those clips are missing. All bytes of the tars are the same.
    tars = [name for name in list_names(SHARDS) if name.endswith(".tar")]
    assert {name: read_bytes(f"{SHARDS}/{name}") for name in tars} == {
        path.name: path.read_bytes() for path in (tmp_path / "shards").glob("*.tar")
    }
    assert read_frame(manifest, manifest.table.to_pylist()[0], 0).startswith(b"\xff\xd8")
    assert [verify_shard({"shard": name.removesuffix(".tar")}, SHARDS)["damage"] for name in tars] == [[]] * len(tars)


def test_mixtures_out_of_a_store_are_those_out_of_a_disk(s3, tmp_path):
    videos = tmp_path / "released" / "videos"
    videos.mkdir(parents=True)
    lines = []
    for number in range(4):
        write_clip(videos / f"clip{number}_000000.mp4", seconds=3, sound=np.stack([tone(3, 200 + 90 * number)] * 2))
        lines.append(f"clip{number},0,class {number},train\n")
    (tmp_path / "released" / "vggsound.csv").write_text("".join(lines))
    upload(tmp_path / "released")
    manifest = write_all(index_vggsound(f"{RELEASED}/vggsound.csv", f"{RELEASED}/videos"), SHARDS)
    local = str(tmp_path / "shards")
    for name in list_names(SHARDS):
        write_atomic(f"{local}/{name}", read_bytes(f"{SHARDS}/{name}"))
    mixing = Mixing(segment_samples=22050, window_shards=8)
    hashes = []
    for folder in (SHARDS, local):
        stream = MixtureStream(folder=folder, mixing=mixing, split="train", seed=0, batch_size=2, executor="inline")
        batches = list(stream.batches(0, 0, 0, 1))
        assert len(batches) == 2
        hashes.append([hashlib.sha256(batch.sources.numpy().tobytes()).hexdigest() for batch in batches])
    assert hashes[0] == hashes[1]
    row = plan_epoch(usable_clips(manifest, mixing, "train"), seed=0, epoch=0).to_pylist()[0]
    tar = f"{SHARDS}/{row['shard'][0]}"
    data = bytearray(read_bytes(tar))
    data[row["audio_offset"][0] + 2 * row["start"][0]] ^= 1
    write_atomic(tar, bytes(data))
    clip = {name: row[name][0] for name in ("shard", "clip_id", "audio_offset", "audio_bytes", "num_samples")}
    with (
        ClipReader(ClipSource.of(manifest)) as reader,
        pytest.raises(DamagedMemberError, match=f"s3://bucket/shards/{row['shard'][0]}: clip {row['clip_id'][0]} "),
    ):
        reader.sound(clip, row["start"][0], 22050, row["checks"][0])


def test_a_store_that_goes_away_stops_the_run_and_quarantines_nothing(s3, monkeypatch, tmp_path):
    make_corpus(tmp_path / "released", num_good=2)
    upload(tmp_path / "released")
    row = plan_shards(index_vggsound(f"{RELEASED}/vggsound.csv", f"{RELEASED}/videos"), SETTINGS).to_pylist()[0]
    monkeypatch.setattr("cocktail.storage.ATTEMPTS", 1)
    point_to("127.0.0.1:1", monkeypatch)
    with pytest.raises(UsageError, match="cannot read s3://bucket/released/videos/"):
        write_shard(row, SETTINGS, str(tmp_path / "shards"))
    assert not list(tmp_path.glob("shards/*.json"))


def test_an_empty_place_in_a_store_is_named(s3):
    with pytest.raises(UsageError, match=r"no file s3://bucket/none.csv. Expected the released vggsound.csv"):
        index_vggsound("s3://bucket/none.csv", RELEASED)
    write_atomic(f"{RELEASED}/vggsound.csv", b"a,0,thunder,train\n")
    with pytest.raises(UsageError, match="nothing lies at s3://bucket/released/videos"):
        shard_dataset(index_vggsound(f"{RELEASED}/vggsound.csv", f"{RELEASED}/videos"), SETTINGS, SHARDS)
