"""Files are there complete or not at all."""

import os
import signal
import subprocess
import sys
import time

import pyarrow.fs
import pytest

from cocktail import storage
from cocktail.storage import (
    absolute,
    delete_file,
    delete_folder,
    exists,
    join,
    list_names,
    open_reader,
    read_bytes,
    write_atomic,
)
from cocktail.types import UsageError


def test_what_is_written_is_read_listed_and_deleted(tmp_path):
    folder = join(str(tmp_path), "a", "b")
    assert list_names(folder) == []
    write_atomic(join(folder, "one"), b"0123456789")
    write_atomic(join(folder, "one"), b"abcdefghij")
    assert read_bytes(join(folder, "one")) == b"abcdefghij"
    assert open_reader(join(folder, "one")).read_at(3, 4) == b"efg"
    assert list_names(folder) == ["one"]
    assert read_bytes(f"file://{folder}/one") == b"abcdefghij"
    delete_folder(folder)
    delete_folder(folder)
    assert not exists(folder)


def test_what_is_no_local_disk_is_written_read_listed_and_deleted_too(tmp_path, monkeypatch):
    """A SubTreeFileSystem is no LocalFileSystem: it takes the way of an object store."""
    elsewhere = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    (tmp_path / "bucket").mkdir()
    monkeypatch.setattr(storage, "resolve", lambda location: (elsewhere, location.removeprefix("store://")))
    write_atomic("store://bucket/one", b"0123456789")
    assert (tmp_path / "bucket" / "one").read_bytes() == b"0123456789"
    assert open_reader("store://bucket/one").read_at(3, 4) == b"456"
    assert list_names("store://bucket") == ["one"]
    delete_file("store://bucket/one")
    delete_file("store://bucket/one")
    assert not exists("store://bucket/one")
    delete_folder("store://bucket")
    assert list_names("store://bucket") == []


def test_a_writer_killed_at_any_moment_leaves_the_old_file_or_the_new(tmp_path):
    target = str(tmp_path / "file")
    script = (
        "import sys; from cocktail.storage import write_atomic\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    write_atomic(sys.argv[1], bytes([number % 256]) * 300_000)\n"
    )
    for delay in (0.0, 0.003, 0.011, 0.02, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", script, target], env=os.environ | {"PYTHONPATH": "platform"})
        try:
            deadline = time.monotonic() + 30
            while not exists(target) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(delay)
        finally:
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
        data = read_bytes(target)
        assert len(data) == 300_000
        assert len(set(data)) == 1


def test_an_unknown_kind_of_location_is_an_error_that_says_what_to_give():
    with pytest.raises(UsageError, match="local path"):
        read_bytes("nosuch://bucket/x")


def test_relative_locations_are_refused_only_where_the_directory_is_a_copy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("here", "--data") == str(tmp_path / "here")
    assert absolute("s3://bucket/x", "--data") == "s3://bucket/x"
    copy = tmp_path / "working_dir_files" / "pkg"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert absolute("/there", "--data") == "/there"
    with pytest.raises(UsageError, match="--data here is relative"):
        absolute("here", "--data")
