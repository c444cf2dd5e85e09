"""A clip that takes too much is named and set aside, the clips around it are stored, and no task is tried for ever."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import uuid

import pyarrow as pa
import pytest
import ray.data
import ray.exceptions
from PIL import Image

from cocktail.media.decoding_process import DecoderStoppedError, DecodingProcess
from cocktail.types import UsageError
from pipelines.datasets.index import IndexRow, PictureFile, make_index
from pipelines.shards import on_cluster, write
from pipelines.shards.on_cluster import in_hand, in_hand_on_cluster, map_on_cluster, note_of
from pipelines.shards.plan import ShardSettings, plan_shards
from pipelines.shards.write import write_shard
from tests.made.corpora.miniature_clips import write_clip

SETTINGS = ShardSettings(dataset="miniature", picture_short_side=32, max_bad_share=1.0)


def shard_row(folder, names):
    rows = []
    for name in names:
        rows.append(
            IndexRow(
                clip_id=name,
                recording=name,
                media_path=str(folder / f"{name}.mp4"),
                labels=("thunder",),
                split="train",
                nominal_seconds=1.5,
                pictures=(PictureFile(str(folder / f"{name}.png"), 0.5),),
            )
        )
    (row,) = plan_shards(make_index(rows, ["thunder"]), SETTINGS).to_pylist()
    return row


def test_a_clip_that_takes_too_much_memory_is_named_and_its_neighbours_are_stored(tmp_path, monkeypatch):
    process = DecodingProcess(max_memory_bytes=40_000_000)
    monkeypatch.setattr(write, "decoding_process", lambda: process)
    for name in "abc":
        write_clip(tmp_path / f"{name}.mp4")
        side = 6000 if name == "b" else 60
        Image.new("RGB", (side, side)).save(tmp_path / f"{name}.png")
    counts = write_shard(shard_row(tmp_path, "abc"), SETTINGS, str(tmp_path / "shards"))
    process.close()
    assert (counts["good"], counts["bad"]) == (2, 1)
    (sidecar,) = (tmp_path / "shards").glob("*.index.json")
    (bad,) = json.loads(sidecar.read_bytes())["quarantined"]
    assert (bad["clip_id"], bad["reason"]) == ("b", "too costly")


def test_a_decoder_that_is_killed_in_between_costs_no_clip(tmp_path):
    write_clip(tmp_path / "a.mp4")
    Image.new("RGB", (60, 60)).save(tmp_path / "a.png")
    os.kill(write.decoding_process().call(os.getpid), signal.SIGKILL)
    assert write_shard(shard_row(tmp_path, "a"), SETTINGS, str(tmp_path / "shards"))["good"] == 1


def test_a_decoder_that_is_stopped_ends_the_run_with_the_clip_s_name_and_no_shard(tmp_path, monkeypatch):
    class Stopped:
        def call(self, *_, **__):
            raise DecoderStoppedError("the system ended the process that decodes")

    write_clip(tmp_path / "a.mp4")
    monkeypatch.setattr(write, "decoding_process", Stopped)
    with pytest.raises(UsageError, match=r"^a: the system ended the process that decodes"):
        write_shard(shard_row(tmp_path, "a"), SETTINGS, str(tmp_path / "shards"))
    assert not list((tmp_path / "shards").glob("*.index.json"))


def test_a_picture_or_mask_beyond_all_bounds_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "mask").write_bytes(bytes(101))
    monkeypatch.setattr(write, "MAX_FILE_BYTES", 100)
    with pytest.raises(ValueError, match="too costly: mask mask has 101 bytes, at most 100 are taken"):
        write._fetch(str(tmp_path / "mask"), "mask")


def write_until_killed(row, folder, run):
    """Write a shard as a task does that the system ends while it decodes clip b."""

    def decode(clip, settings):
        if clip["clip_id"] == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(clip, settings)

    whole, write._decode = write._decode, decode
    write_shard(row, SETTINGS, folder, run)


def kill(row, folder, run=""):
    process = multiprocessing.get_context("fork").Process(target=write_until_killed, args=(row, folder, run))
    process.start()
    process.join(60)
    return process.exitcode


def test_a_task_that_is_killed_leaves_the_name_of_its_clip_until_the_shard_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in "abc":
        write_clip(tmp_path / f"{name}.mp4")
        Image.new("RGB", (60, 60)).save(tmp_path / f"{name}.png")
    row, folder = shard_row(tmp_path, "abc"), str(tmp_path / "shards")
    assert kill(row, folder, "this") == -signal.SIGKILL
    assert in_hand(folder, [row["shard"], "train-00001"], "this") == {row["shard"]: "b"}
    assert in_hand(folder, [row["shard"]], "another") == {}, "what an earlier run left says nothing of this one"
    assert in_hand(folder + "-of-others", [row["shard"]], "this") == {}
    write_shard(row, SETTINGS, folder)
    assert in_hand(folder, [row["shard"]], "this") == {}
    assert not list(tmp_path.glob("cocktail-tasks-*/*"))


def test_a_run_whose_tasks_are_killed_at_one_clip_names_it_each_time_and_ends(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(on_cluster, "MAX_DEATHS", 2)
    for name in "ab":
        write_clip(tmp_path / f"{name}.mp4")
        Image.new("RGB", (60, 60)).save(tmp_path / f"{name}.png")
    row, folder = shard_row(tmp_path, "ab"), str(tmp_path / "shards")
    for run in ("other", "other", "this", "this"):  # deaths of other runs do not count
        assert kill(row, folder, run) == -signal.SIGKILL
    assert capfd.readouterr().out.count("is begun again: its task was ended with b in hand") == 2
    with pytest.raises(UsageError, match=r"^b: the system, or Ray, ended the task that reads it 2 times in a row"):
        write_shard(row, SETTINGS, folder, "this")
    assert write_shard(row, SETTINGS, folder, "this")["good"] == 2  # started again, it is tried again


def test_what_a_task_that_goes_on_has_in_hand_is_not_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with note_of("shards", "train-00000", "") as note:
        note.begin("a")
        assert in_hand("shards", ["train-00000"], "") == {}
        with note_of("shards", "train-00000", "") as another:  # which does not overwrite it
            another.begin("b")
        (path,) = tmp_path.glob("cocktail-tasks-*/*")
        assert json.loads(path.read_text())[1] == "a"


def test_all_nodes_are_asked_what_their_tasks_had_in_hand(local_ray):
    shard = f"train-{uuid.uuid4().hex}"
    code = f"""
        import os, signal
        from pipelines.shards.on_cluster import note_of
        with note_of("shards", {shard!r}, "this") as note:
            note.begin("a")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": paths, "TMPDIR": tempfile.gettempdir()}
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert in_hand_on_cluster("shards", [shard], "this") == {shard: "a"}
    assert in_hand_on_cluster("shards", [shard], "another") == {}
    with note_of("shards", shard, ""):  # and no more once it is written
        pass
    assert in_hand_on_cluster("shards", [shard], "this") == {}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where this node's notes are kept, which is not there yet, in a process that has said nothing of it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(on_cluster, "_said", set())
    return tmp_path / f"cocktail-tasks-{os.getuid()}"


def assert_nothing_is_noted_and_that_is_said_once(place, capfd, why):
    for shard in ("train-00000", "train-00001"):
        with note_of("shards", shard, "this") as note:
            note.begin("a")
            note.begin("b")
            assert not list(place.iterdir())
    assert in_hand("shards", ["train-00000"], "this") == {}
    said = capfd.readouterr().out
    assert said.count("what tasks of this node have in hand is not noted") == 1
    assert f"as {place} cannot be used: {why}" in said


def test_a_place_that_others_can_write_to_or_that_is_a_link_takes_no_notes(place, tmp_path, capfd, monkeypatch):
    place.mkdir()
    place.chmod(0o777)
    assert_nothing_is_noted_and_that_is_said_once(place, capfd, "it is a link, or another user's, or others may write")
    place.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(on_cluster, "_said", set())
    assert_nothing_is_noted_and_that_is_said_once(place, capfd, "it is a link, or another user's, or others may write")


def test_a_link_in_the_place_of_a_note_is_not_written_through(place, tmp_path, capfd):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    place.mkdir(mode=0o700)
    (place / on_cluster._name("shards", "train-00000")).symlink_to(victim)
    with note_of("shards", "train-00000", "this") as note:
        note.begin("a")
    assert victim.read_text() == "precious"
    assert "is not noted" in capfd.readouterr().out


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_takes_no_notes(place, capfd, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(on_cluster.fcntl, "flock", refuse)
    assert_nothing_is_noted_and_that_is_said_once(place, capfd, os.strerror(code))


def test_a_disk_that_is_full_takes_no_notes(place, capfd, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(on_cluster.os, "write", refuse)
    with note_of("shards", "train-00000", "this") as note:
        note.begin("a")
        note.begin("b")
    monkeypatch.undo()
    said = capfd.readouterr().out
    assert (said.count("is not noted"), os.strerror(errno.ENOSPC) in said) == (1, True)


def test_tasks_that_memory_is_too_short_for_end_the_run_in_words_with_what_they_had_in_hand(monkeypatch):
    class Ends:
        def map(self, _, fn_kwargs, **__):
            given.update(fn_kwargs)
            return self

        def iter_rows(self):
            yield {"shard": "train-00001"}
            raise ray.exceptions.OutOfMemoryError("1 worker was killed")

        context = ray.data.DataContext()

    monkeypatch.setattr(ray.data, "from_arrow", lambda _: Ends())
    given = {}
    asked = []

    def ask(folder, shards, run):
        asked.append((folder, run))
        return {shards[1]: "abc_000030"}

    monkeypatch.setattr(on_cluster, "in_hand_on_cluster", ask)
    plan = pa.table({"shard": [f"train-{n:05d}" for n in range(3)]})
    with pytest.raises(UsageError, match=r"memory ran short .*1 worker was killed.*Give --tasks") as caught:
        list(map_on_cluster(plan, write_shard, {}, None, folder="shards"))
    assert asked == [("shards", given["run"])] and given["run"], "of this run, which the tasks were told the name of"
    assert "Of 2 shards there is no result, the first of them train-00000, train-00002. " in str(caught.value)
    assert "train-00002 had abc_000030 in hand. " in str(caught.value)
