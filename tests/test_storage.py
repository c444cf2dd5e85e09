"""Files are there complete or not at all."""

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.fs
import pytest

from cocktail import storage
from cocktail.storage import (
    absolute,
    create,
    delete_file,
    delete_folder,
    delete_temporary,
    exists,
    join,
    list_names,
    local_copy,
    open_atomic,
    open_reader,
    read_bytes,
    require_writable,
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


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A SubTreeFileSystem is no LocalFileSystem: it takes the way of an object store."""
    elsewhere = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    (tmp_path / "bucket").mkdir()
    monkeypatch.setattr(storage, "resolve", lambda location: (elsewhere, location.removeprefix("store://")))


def test_what_is_no_local_disk_is_written_read_listed_and_deleted_too(store, tmp_path):
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


def test_a_uri_without_both_slashes_is_no_local_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for typo in ("s3:/bucket/x", "s3:bucket/x"):
        for use in (
            lambda location: absolute(location, "--shards"),
            exists,
            lambda location: write_atomic(location, b""),
        ):
            with pytest.raises(UsageError, match=rf"{typo}: expected s3://bucket/x"):
                use(typo)
    with pytest.raises(UsageError, match="s3:// names no bucket"):
        exists("s3://")
    assert list(tmp_path.iterdir()) == []
    assert absolute("a:b", "--shards") == str(tmp_path / "a:b")


@pytest.mark.parametrize("endpoint", ["localhost:9000", "s3.example.org", "http://localhost:9000/path", "http://"])
def test_an_endpoint_that_is_no_http_address_is_told_with_its_variable(monkeypatch, endpoint):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(UsageError, match=rf"AWS_ENDPOINT_URL is {endpoint}: expected http://HOST:PORT"):
        read_bytes("s3://bucket/x")


def gone_process() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_of_temporary_files_only_those_without_a_writer_are_deleted(tmp_path):
    host = socket.gethostname()
    with open_atomic(str(tmp_path / "a.tar")) as file:
        file.write(b"a")
        being_written = next(tmp_path.iterdir()).name
        assert being_written == f".a.tar.{host}.{os.getpid()}.cocktail-tmp"
        others = (".unison.tmp", f".a.tar.{gone_process()}.tmp", f"a.tar.{host}.{gone_process()}.cocktail-tmp")
        kept = (f".b.tar.{host}.{os.getppid()}.cocktail-tmp", ".b.tar.elsewhere.1.cocktail-tmp", *others)
        gone = (f".c.tar.{host}.{gone_process()}.cocktail-tmp", f".d.tar.{host}.99999999999.cocktail-tmp")
        old = (".c.tar.elsewhere.1.cocktail-tmp", f".e.tar.{host}.{os.getppid()}.cocktail-tmp")
        for name in (*kept, *gone, *old):
            (tmp_path / name).touch()
        for name in (*old, *others):
            os.utime(tmp_path / name, (0, time.time() - 25 * 3600))
        delete_temporary(str(tmp_path))
        assert {path.name for path in tmp_path.iterdir()} == {*kept, being_written}
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "a.tar"}


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip(f"no file system can be mounted: {mount.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def write_too_much(location: str) -> None:
    with open_atomic(location) as file:
        for _ in range(100):
            file.write(bytes(1 << 14))


def test_a_full_disk_is_named_with_what_to_do(tiny_disk):
    write_atomic(str(tiny_disk / "before"), b"before")
    for write in (write_too_much, lambda location: write_atomic(location, bytes(1 << 20))):
        with pytest.raises(UsageError, match=rf"cannot write {tiny_disk}/after: No space left .*\. Make room there"):
            write(str(tiny_disk / "after"))
    assert [path.name for path in tiny_disk.iterdir()] == ["before"]
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(UsageError, match=rf"cannot write {tiny_disk}/after: Read-only file system\. Make room there"):
        write_too_much(str(tiny_disk / "after"))


def test_a_full_disk_for_temporary_files_is_not_taken_for_the_store(store, tmp_path, tiny_disk, monkeypatch):
    (tmp_path / "bucket" / "large").write_bytes(bytes(1 << 20))
    monkeypatch.setattr(tempfile, "tempdir", str(tiny_disk))
    told = rf"cannot write {tiny_disk}, where store://bucket/x is kept until it is uploaded: No space left"
    with pytest.raises(UsageError, match=told):
        write_too_much("store://bucket/x")
    with (
        pytest.raises(UsageError, match=rf"cannot write {tiny_disk}/cocktail-.*/large: No space left"),
        local_copy("store://bucket/large"),
    ):
        pass
    assert [path.name for path in (tmp_path / "bucket").iterdir()] == ["large"]


def test_a_limit_on_the_size_of_files_is_told_without_a_traceback(tmp_path):
    script = (
        "import resource, sys; from cocktail.storage import write_atomic; from cocktail.types import UsageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomic(sys.argv[1], bytes(2000))\n"
        "except UsageError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    told = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": "platform"}, capture_output=True, text=True, check=True
    )
    assert told.stdout == f"cannot write {tmp_path}/file: File too large. Make room there, or write elsewhere\n"
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_block_that_are_no_want_of_room_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError, match="no"), open_atomic(str(tmp_path / "file")):
        raise PermissionError("no")
    assert list(tmp_path.iterdir()) == []


def test_of_several_that_create_a_file_at_once_one_does(tmp_path):
    location = str(tmp_path / "folder" / "one")
    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(lambda number: create(location, f"{number}".encode()), range(8)))
    assert created.count(True) == 1
    assert read_bytes(location) == f"{created.index(True)}".encode()


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_created_whole_or_not_at_all_and_leaves_no_other(tmp_path, monkeypatch, links):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fail)
        with pytest.raises(UsageError, match=r"cannot write .*one: No space left"):
            create(str(tmp_path / "one"), b"1")
    assert list(tmp_path.iterdir()) == []
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert create(str(tmp_path / "one"), b"1")
    assert not create(str(tmp_path / "one"), b"2")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("one", b"1")]


def test_a_folder_is_made_and_tried_and_one_that_cannot_be_is_named(tmp_path):
    require_writable(str(tmp_path / "a" / "b"))
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*file/output"):
        require_writable(str(tmp_path / "file" / "output"))
