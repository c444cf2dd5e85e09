"""Whatever bit of a finished data set changes, verifying finds it and says where; reading refuses it by name."""

import multiprocessing
import os
import random
import shutil
import signal
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest

from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.mixtures.render import render
from pipelines.plans.plan import plan_epoch
from pipelines.plans.pool import usable_clips
from pipelines.shards import on_cluster, verify
from pipelines.shards.manifest import open_manifest
from pipelines.shards.reader import ClipSource, DamagedMemberError, read_audio, read_frame, read_mask_png
from pipelines.shards.signed_json import sign
from pipelines.shards.tars import AudioFormat, member_header
from pipelines.shards.verify import (
    Damage,
    _check_tables,
    delete_damaged,
    find_shards,
    verify_and_report,
    verify_dataset,
    verify_shard,
)
from tests.made.corpora.toy_shards import CLASSES, RATE, make_toy_shards, toy_audio, toy_clip, toy_row, write_shards

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=2)


def make(folder, audio_format: AudioFormat = "wav"):
    return make_toy_shards(
        folder, num_shards=2, clips_per_shard=4, num_test=2, audio_format=audio_format, with_pictures=True
    )


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    return make(tmp_path_factory.mktemp("intact"))


def damage_of(folder) -> list[Damage]:
    """All damage, without Ray."""
    found = []
    shards = sorted(path.name.removesuffix(".tar") for path in Path(folder).glob("*.tar"))
    for shard in shards:
        found += [Damage(*item) for item in verify_shard({"shard": shard}, str(folder))["damage"]]
    return found or list(_check_tables(str(folder), shards))


def verify_until_killed(shard: str, folder: str, key: str) -> None:
    """Verify a shard as a task does that the system ends at the sound of a clip."""

    def difference(file, name, *rest):
        if name == f"{key}.wav":
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(file, name, *rest)

    whole, verify._difference = verify._difference, difference
    verify_shard({"shard": shard}, folder, "this")


def test_a_run_whose_tasks_are_killed_at_one_clip_ends_with_its_name(intact, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(on_cluster, "MAX_DEATHS", 1)
    clip = intact.table.slice(1, 1).to_pylist()[0]
    shard = clip["shard"].removesuffix(".tar")
    arguments = (shard, intact.folder, clip["key"])
    process = multiprocessing.get_context("fork").Process(target=verify_until_killed, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert on_cluster.in_hand(intact.folder, [shard], "this") == {shard: clip["clip_id"]}
    with pytest.raises(UsageError, match=f"^{clip['clip_id']}: .* ended the task that reads it 1 times in a row"):
        verify_shard({"shard": shard}, intact.folder, "this")
    assert verify_shard({"shard": shard}, intact.folder, "another")["damage"] == []


@pytest.mark.parametrize("size", [1, 7, 512])
def test_members_are_hashed_some_bytes_at_a_time_and_what_is_wrong_is_the_same(intact, tmp_path, monkeypatch, size):
    monkeypatch.setattr(verify, "_READ_BYTES", size)
    folder = shutil.copytree(intact.folder, tmp_path / "copy")
    assert damage_of(folder) == []
    clip = intact.table.slice(1, 1).to_pylist()[0]
    with (folder / clip["shard"]).open("r+b") as tar:
        tar.truncate(clip["audio_offset"] + 5)
    whole = clip["audio_bytes"] + 44  # a WAV's header
    ends = f"the file ends in or before it: 49 of its {whole} bytes are there"
    assert [item.what for item in damage_of(folder) if item.member == f"{clip['key']}.wav"] == [ends]


def member_at(tar: Path, position: int) -> str:
    """The member whose header, data or padding holds this byte, as tarfile sees the intact file."""
    with tarfile.open(tar) as archive:
        for member in archive:
            if member.offset <= position < member.offset_data + -(-member.size // 512) * 512:
                return member.name
    return "end of archive"


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_an_intact_data_set_has_no_damage(intact):
    assert damage_of(intact.folder) == []


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_every_one_of_1000_flipped_bits_is_found_and_its_member_named(tmp_path, audio_format):
    folder = Path(make(tmp_path / "shards", audio_format).folder)
    generator = random.Random(1)
    tars = sorted(folder.glob("*.tar"))
    contents = {path: path.read_bytes() for path in tars}
    for _ in range(500):
        tar = generator.choice(tars)
        bit = generator.randrange(8 * len(contents[tar]))
        expected = member_at(tar, bit // 8)
        tar.write_bytes(flip(contents[tar], bit))
        found = verify_shard({"shard": tar.name.removesuffix(".tar")}, str(folder))["damage"]
        tar.write_bytes(contents[tar])
        assert [item[:2] for item in found] == [(tar.name, expected)]


def test_every_one_of_100_truncations_is_found_and_its_first_member_named(tmp_path):
    folder = Path(make(tmp_path / "shards").folder)
    generator = random.Random(2)
    tars = sorted(folder.glob("*.tar"))
    for _ in range(100):
        tar = generator.choice(tars)
        whole = tar.read_bytes()
        length = generator.randrange(len(whole))
        expected = member_at(tar, length)
        tar.write_bytes(whole[:length])
        found = [
            Damage(*item) for item in verify_shard({"shard": tar.name.removesuffix(".tar")}, str(folder))["damage"]
        ]
        tar.write_bytes(whole)
        assert found[0].member == expected
        assert found[-1].member == "end of archive"


@pytest.mark.parametrize("suffix", [".index.json", "manifest.json", "manifest.parquet", "quarantine.parquet"])
def test_every_flipped_bit_in_sidecars_and_tables_is_found(tmp_path, suffix):
    folder = Path(make(tmp_path / "shards").folder)
    path = next(path for path in sorted(folder.iterdir()) if path.name.endswith(suffix))
    whole = path.read_bytes()
    generator = random.Random(3)
    for _ in range(100):
        path.write_bytes(flip(whole, generator.randrange(8 * len(whole))))
        assert path.name in str(damage_of(folder)[0])
    path.write_bytes(whole)
    assert damage_of(folder) == []


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_reading_for_training_refuses_the_damaged_clip_by_name_and_reads_its_neighbours(tmp_path, audio_format):
    manifest = make(tmp_path / "shards", audio_format)
    rows = manifest.table.to_pylist()
    before = [read_audio(manifest, row) for row in rows]
    victim = next(row for row in rows if row["split"] == "train" and row["rms"][0] > 0)
    tar = Path(manifest.folder, victim["shard"])
    position = victim["audio_offset"] + (1000 if audio_format == "wav" else victim["audio_bytes"] // 2)
    tar.write_bytes(flip(tar.read_bytes(), 8 * position))
    reopened = make_fresh_reader(manifest, tmp_path)
    with pytest.raises(DamagedMemberError, match=f"{victim['shard']}: clip {victim['clip_id']} is damaged: "):
        read_audio(reopened, victim)
    for row, audio in zip(rows, before, strict=True):
        if row["clip_id"] != victim["clip_id"]:
            np.testing.assert_array_equal(read_audio(reopened, row), audio)
    plan = plan_epoch(usable_clips(reopened, MIXING, "train"), seed=0, epoch=0)
    refused = 0
    for number, row in enumerate(plan.to_pylist()):
        touched = any(
            clip == victim["clip_id"] and (audio_format == "flac" or start // RATE == 0)
            for clip, start in zip(row["clip_id"], row["start"], strict=True)
        )
        if touched and audio_format == "wav":
            problem = render(plan.slice(number, 1), ClipSource.of(reopened), MIXING)["problem"][0]
            assert f"clip {victim['clip_id']} is damaged" in problem
            refused += 1
        elif not touched:
            assert not render(plan.slice(number, 1), ClipSource.of(reopened), MIXING)["problem"][0]
    assert refused or audio_format == "flac"


def make_fresh_reader(manifest, tmp_path):
    """The same data set at another path: open files are kept by path."""
    copy = tmp_path / "copy"
    shutil.copytree(manifest.folder, copy)
    return open_manifest(str(copy))


def test_damaged_pictures_and_masks_are_refused(tmp_path):
    manifest = make(tmp_path / "shards")
    row = manifest.table.to_pylist()[0]
    tar = Path(manifest.folder, row["shard"])
    whole = tar.read_bytes()
    tar.write_bytes(flip(flip(whole, 8 * row["frame_offsets"][0] + 3), 8 * row["mask_offset"] + 200))
    reopened = make_fresh_reader(manifest, tmp_path)
    with pytest.raises(DamagedMemberError, match="picture 0 differs"):
        read_frame(reopened, row, 0)
    with pytest.raises(DamagedMemberError, match="mask differs"):
        read_mask_png(reopened, row)
    neighbour = manifest.table.to_pylist()[1]
    assert read_frame(reopened, neighbour, 0).startswith(b"\xff\xd8")


def test_what_is_deleted_for_repair_is_what_is_damaged_and_the_manifest(tmp_path):
    manifest = make(tmp_path / "shards")
    folder = Path(manifest.folder)
    names = {path.name for path in folder.iterdir()}
    damage = [Damage("train-00001.tar", "clip005.wav", "its bytes differ")]
    deleted = delete_damaged(str(folder), damage)
    assert deleted[0] == "train-00001.index.json"
    assert set(deleted) == {"train-00001.index.json", "train-00001.tar", "manifest.json"} | {
        "manifest.parquet",
        "quarantine.parquet",
    }
    assert {path.name for path in folder.iterdir()} == names - set(deleted)


def test_shards_that_are_gone_are_named(tmp_path):
    folder = Path(make(tmp_path / "shards").folder)
    (folder / "train-00000.tar").unlink()
    assert damage_of_shard(folder, "train-00000") == [Damage("train-00000.tar", "", "it is not there")]
    (folder / "train-00000.index.json").unlink()
    assert damage_of(folder) == [Damage("train-00000.tar", "", "neither it nor its sidecar is there")]


STRANGERS = {
    "FUSS_ssdata.tar": b"somebody's sounds",
    "vacation.tar": b"somebody's pictures",
    "imagenet-train-00000-of-00002.tar": b"shards of another program",
    "photos.index.json": b'{"name": "photos"}',
    "photos.tar": b"more of somebody's pictures",
    "manifest.json": b'{"name": "an app"}',
    "manifest.parquet": b"PAR1",
    "quarantine.parquet": b"PAR1",
}


def put_strangers(folder) -> None:
    for name, data in STRANGERS.items():
        (folder / name).write_bytes(data)


def require_strangers(folder) -> None:
    assert {name: (folder / name).read_bytes() for name in STRANGERS} == STRANGERS


@pytest.mark.parametrize("delete", [False, True])
def test_a_folder_without_a_data_set_of_ours_is_refused_and_nothing_in_it_deleted(tmp_path, delete):
    put_strangers(tmp_path)
    with pytest.raises(UsageError, match=rf"no shards at {tmp_path}: neither a manifest.json nor a \*.index.json of"):
        verify_and_report(str(tmp_path), None, delete)
    require_strangers(tmp_path)
    (tmp_path / "manifest.json").write_bytes(sign({"schema": "cocktail-manifest/1"}))
    (tmp_path / "train-00000-of-00001.index.json").write_bytes(sign({"schema": "cocktail-shard/1"}))
    with pytest.raises(UsageError, match="no shards"):
        verify_and_report(str(tmp_path), None, delete)


def make_unfinished(folder) -> None:
    """Two of three shards of a data set whose sharding was killed, the third without its sidecar; no manifest."""
    names = ("test-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002")
    write_shards(
        folder, {name: [(toy_row(n, name[:4], 5), toy_clip(toy_audio(n)))] for n, name in enumerate(names)}, CLASSES
    )
    for name in ("manifest.json", "manifest.parquet", "quarantine.parquet", "train-00001-of-00002.index.json"):
        (folder / name).unlink()


def test_of_strangers_beside_shards_nothing_is_counted_or_deleted(tmp_path):
    make_unfinished(tmp_path)
    put_strangers(tmp_path)
    shards = ["test-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"]
    assert find_shards(str(tmp_path)) == shards
    damage = [item for shard in shards for item in damage_of_shard(tmp_path, shard)]
    damage += [Damage("train-00000-of-00002.tar", "a.wav", "its header differs")]
    assert damage[0] == Damage(f"{shards[2]}.tar", "", "there is no sidecar beside it, so it was never finished")
    damage += [Damage(name, "", "never to be found") for name in STRANGERS]
    assert delete_damaged(str(tmp_path), damage) == [
        "train-00000-of-00002.index.json",
        "train-00000-of-00002.tar",
        "train-00001-of-00002.tar",
    ]
    require_strangers(tmp_path)


def test_a_damaged_sidecar_or_manifest_is_still_one_of_ours(tmp_path):
    make_unfinished(tmp_path)
    shards = find_shards(str(tmp_path))
    for path in tmp_path.glob("*.index.json"):
        path.write_bytes(path.read_bytes().replace(b":", b";", 1))
    assert find_shards(str(tmp_path)) == shards
    other = tmp_path / "other"
    make(other)
    (other / "manifest.json").write_bytes((other / "manifest.json").read_bytes().replace(b":", b";", 1))
    assert "manifest.json" in delete_damaged(str(other), [Damage("manifest.json", "", "is damaged")])


def test_a_data_set_all_of_whose_shards_are_gone_is_no_empty_folder(tmp_path):
    folder = Path(make(tmp_path / "shards").folder)
    for path in (*folder.glob("*.tar"), *folder.glob("*.index.json")):
        path.unlink()
    *_, last = verify_dataset(str(folder))
    assert [item[0] for item in last["damage"]] == ["test-00002.tar", "train-00000.tar", "train-00001.tar"]


def damage_of_shard(folder, shard):
    return [Damage(*item) for item in verify_shard({"shard": shard}, str(folder))["damage"]]


def test_a_header_is_the_same_as_tarfile_writes():
    member = tarfile.TarInfo("a.wav")
    member.size = 5
    assert member_header("a.wav", 5) == member.tobuf(tarfile.USTAR_FORMAT)


def test_on_the_cluster_damage_is_printed_by_member_and_mended_by_deleting(local_ray, tmp_path, capsys):
    manifest = make(tmp_path / "shards")
    assert verify_and_report(manifest.folder, None, delete=False)
    row = manifest.table.to_pylist()[0]
    tar = Path(manifest.folder, row["shard"])
    tar.write_bytes(flip(tar.read_bytes(), 8 * row["audio_offset"]))
    assert not verify_and_report(manifest.folder, 1, delete=False)
    printed = capsys.readouterr().out
    assert f"damaged: {row['shard']}: {row['key']}.wav: its " in printed
    assert "--delete-damaged" in printed
    assert not verify_and_report(manifest.folder, 1, delete=True)
    assert not tar.exists()
    assert [result["damage"] for result in verify_dataset(manifest.folder) if result["shard"]] == [[], []]
