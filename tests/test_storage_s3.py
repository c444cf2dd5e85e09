"""Against a real S3 protocol server: what is written is read, hiccups are waited out, the unreachable is named."""

import itertools
import os
import shutil
import subprocess
import sys
import time

import pytest

from cocktail import storage
from cocktail.storage import (
    delete_file,
    delete_folder,
    exists,
    join,
    list_names,
    local_copy,
    open_atomic,
    open_reader,
    read_bytes,
    write_atomic,
)
from cocktail.types import UsageError
from tests.services.s3_server import failing_proxy, point_to, s3_server

ROOT = "s3://bucket/some/folder"


@pytest.fixture
def s3(monkeypatch):
    with s3_server(monkeypatch) as address:
        yield address


def test_what_is_written_is_read_listed_and_deleted(s3):
    assert list_names(ROOT) == []
    write_atomic(join(ROOT, "one"), b"0123456789")
    write_atomic(join(ROOT, "one"), b"abcdefghij")
    assert read_bytes(join(ROOT, "one")) == b"abcdefghij"
    assert open_reader(join(ROOT, "one")).read_at(3, 4) == b"efg"
    assert list_names(ROOT) == ["one"]
    assert exists(ROOT)
    with local_copy(join(ROOT, "one")) as path:
        assert path.read_bytes() == b"abcdefghij"
    assert not path.exists()
    delete_file(join(ROOT, "one"))
    delete_file(join(ROOT, "one"))
    assert not exists(join(ROOT, "one"))
    write_atomic(join(ROOT, "two"), b"2")
    delete_folder(ROOT)
    assert list_names(ROOT) == []


def test_a_large_file_is_uploaded_in_parts_and_whole(s3):
    data = bytes(range(256)) * 100_000
    with open_atomic(join(ROOT, "large")) as file:
        for start in range(0, len(data), 1_000_000):
            file.write(data[start : start + 1_000_000])
        assert not exists(join(ROOT, "large"))
    assert read_bytes(join(ROOT, "large")) == data


def test_a_writer_that_fails_leaves_nothing(s3):
    with pytest.raises(ZeroDivisionError), open_atomic(join(ROOT, "half")) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert not exists(join(ROOT, "half"))


def interrupt_at_line(number, files):
    """A trace function that raises KeyboardInterrupt, as Ctrl-C does, before the n-th line that is run in files."""
    lines = itertools.count()

    def trace(frame, event, _):
        if event == "line" and frame.f_code.co_filename in files and next(lines) == number:
            raise KeyboardInterrupt
        return trace

    return trace


def test_a_writer_that_is_interrupted_at_any_line_leaves_nothing_or_the_whole(s3):
    location, data = join(ROOT, "interrupted"), bytes(1000)
    files = {storage.__file__, shutil.__file__}
    found = []
    for number in itertools.count():
        previous = sys.gettrace()
        sys.settrace(interrupt_at_line(number, files))
        try:
            write_atomic(location, data)
            break
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(previous)
        found.append(read_bytes(location) if exists(location) else None)
        delete_file(location)
    assert set(found) == {None, data}
    assert read_bytes(location) == data


def test_a_file_that_fails_to_be_read_on_its_way_is_not_there_either_once_the_process_has_ended(s3):
    script = (
        "import shutil, sys; from cocktail.storage import write_atomic\n"
        "def fail_after_a_while(file, stream, size):\n"
        "    stream.write(file.read(11 << 20))\n"
        "    raise OSError(5, 'Input/output error')\n"
        "shutil.copyfileobj = fail_after_a_while\n"
        "try: write_atomic(sys.argv[1], bytes(12 << 20))\n"
        "except ValueError as error: print(error)\n"
    )
    location = join(ROOT, "unread")
    told = subprocess.run(
        [sys.executable, "-c", script, location],
        env=os.environ | {"PYTHONPATH": "platform"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.startswith(f"cannot write {location}: Input/output error")
    assert told.stderr == ""
    assert not exists(location)


def test_an_upload_of_which_a_part_fails_leaves_what_was_there(s3, monkeypatch):
    location = join(ROOT, "large")
    write_atomic(location, b"before")
    monkeypatch.setattr(storage, "ATTEMPTS", 1)
    with failing_proxy(s3, refused="partNumber=2") as (address, counts):
        point_to(address, monkeypatch)
        with pytest.raises(UsageError, match=f"cannot write {location}: .*UploadPart"):
            write_atomic(location, bytes(25 << 20))
        assert counts[1] == 1
        assert read_bytes(location) == b"before"


def test_what_is_not_there_is_a_missing_file(s3):
    for location in (join(ROOT, "none"), "s3://nobody/none"):
        with pytest.raises(FileNotFoundError):
            read_bytes(location)
        with pytest.raises(FileNotFoundError), local_copy(location):
            pass


def test_a_bucket_that_is_not_there_cannot_be_written_to(s3):
    with pytest.raises(UsageError, match=r"cannot write s3://nobody/x: .*NO_SUCH_BUCKET.* Check the address"):
        write_atomic("s3://nobody/x", b"")


def test_requests_that_fail_for_a_moment_are_tried_again(s3, monkeypatch):
    with failing_proxy(s3, fail_every=3) as (address, counts):
        point_to(address, monkeypatch)
        for number in range(4):
            write_atomic(join(ROOT, f"{number}"), bytes([number]) * 1000)
        assert list_names(ROOT) == [str(number) for number in range(4)]
        assert [read_bytes(join(ROOT, name))[0] for name in list_names(ROOT)] == list(range(4))
    assert counts[1] > 2


def test_a_store_that_cannot_be_reached_is_named_within_seconds(monkeypatch):
    monkeypatch.setattr(storage, "ATTEMPTS", 2)
    point_to("127.0.0.1:1", monkeypatch)
    begin = time.monotonic()
    with pytest.raises(UsageError, match=r"cannot read s3://bucket/some/folder/one: .*[Cc]ouldn?.?t? ?(not )?connect"):
        read_bytes(join(ROOT, "one"))
    with pytest.raises(UsageError, match=r"cannot list s3://bucket/some/folder: "):
        list_names(ROOT)
    assert time.monotonic() - begin < 30


def test_names_may_hold_any_character(s3):
    location = join(ROOT, "what? 100% #1 é+&.txt")
    write_atomic(location, b"here")
    assert read_bytes(location) == b"here"
    assert list_names(ROOT) == ["what? 100% #1 é+&.txt"]


def test_options_in_a_uri_are_refused_with_what_to_do_instead():
    with pytest.raises(UsageError, match="Set AWS_ENDPOINT_URL and AWS_REGION instead"):
        read_bytes("s3://bucket/x?endpoint_override=localhost")


def test_a_file_is_created_once_and_a_folder_is_tried_without_leaving_anything(s3):
    assert storage.create(join(ROOT, "one"), b"1")
    assert not storage.create(join(ROOT, "one"), b"2")
    assert read_bytes(join(ROOT, "one")) == b"1"
    storage.require_writable(ROOT)
    assert list_names(ROOT) == ["one"]
    with pytest.raises(UsageError, match="cannot write s3://absent/folder"):
        storage.require_writable("s3://absent/folder")


def test_credentials_in_a_location_are_refused_and_not_shown(s3):
    with pytest.raises(UsageError, match=r"s3://\*\*\*@bucket/folder: credentials") as refused:
        write_atomic("s3://anyone:any/thing@bucket/folder", b"")
    assert "thing" not in str(refused.value)
