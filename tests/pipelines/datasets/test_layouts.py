"""Released lists and folders are read as they are, on disks and in stores; what is no such file is named."""

import os

import pyarrow.fs
import pytest

from cocktail import storage
from cocktail.types import UsageError
from pipelines.datasets.layouts import Folder, Line, read_csv, read_json, read_text

EXPECTED = "a list of birds"


def write(folder, data):
    path = folder / "list"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def test_csv_fields_keep_quoted_commas_and_lose_the_white_space_around_them(tmp_path):
    path = write(tmp_path, '\ufeffa, 1 ,"chirping, tweeting"\r\n\r\nb,2,\n')
    assert list(read_csv(path, EXPECTED, num_columns=3)) == [
        Line(f"{path}, line 1", ["a", "1", "chirping, tweeting"]),
        Line(f"{path}, line 3", ["b", "2", ""]),
    ]


def test_a_csv_of_any_width_and_delimiter_is_read_if_no_width_is_asked_for(tmp_path):
    path = write(tmp_path, "a\tb,c\nd\n")
    assert [line.fields for line in read_csv(path, EXPECTED, delimiter="\t")] == [["a", "b,c"], ["d"]]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("a,1\nb\n", "line 2: 1 columns: .*'b'.*Expected 2: a list of birds"),
        ('a,1\n"b,2\n', "line 2: .*Expected a list of birds"),
        ('a,1\n"b"c,2\n', "line 2: .*Expected a list of birds"),
        (b"a,caf\xe9\n", "cannot read .*list: .*Expected a list of birds"),
    ],
)
def test_a_csv_that_is_another_is_refused_with_the_line(tmp_path, data, told):
    with pytest.raises(UsageError, match=told):
        list(read_csv(write(tmp_path, data), EXPECTED, num_columns=2))


def test_files_that_are_not_there_or_no_files_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"no file .*/none. Expected a list of birds"):
        read_text(f"{tmp_path}/none", EXPECTED)
    with pytest.raises(UsageError, match=r"cannot read .*test_files_that_are"):
        read_text(str(tmp_path), EXPECTED)


def test_json_is_read_and_what_is_none_is_refused_with_the_place(tmp_path):
    assert read_json(write(tmp_path, '\ufeff[{"class": "caf\u00e9"}]'), EXPECTED) == [{"class": "caf\u00e9"}]
    with pytest.raises(UsageError, match=r"list is no JSON: .*line 2 column 1.*Expected a list of birds"):
        read_json(write(tmp_path, "[\n"), EXPECTED)


def test_a_folder_knows_what_is_there_what_is_not_and_what_has_an_unreadable_name(tmp_path):
    folder = str(tmp_path)
    for name in (b"here.mp4", b"both.mp4", b"both_caf\xe9.mp4", b"name_caf\xe9.mp4", b"gone.webm", b"zz\xe9"):
        (tmp_path / os.fsdecode(name)).touch()
    listed = Folder(folder, EXPECTED)
    problems = {name: listed.problem(f"{name}.mp4") for name in ("here", "both", "name", "gone", "none")}
    assert problems == {
        "here": None,
        "both": None,
        "name": "undecodable file name",
        "gone": "missing file",
        "none": "missing file",
    }
    assert listed.names == ["both.mp4", "gone.webm", "here.mp4"]
    assert listed.path("here.mp4") == f"{folder}/here.mp4"


def test_a_name_without_an_ending_is_taken_for_no_other(tmp_path):
    for name in (b"zz\xe9", b"mask_caf\xe9"):
        (tmp_path / os.fsdecode(name)).touch()
    listed = Folder(str(tmp_path), EXPECTED)
    assert (listed.problem("gone"), listed.problem("mask")) == ("missing file", "undecodable file name")


def test_a_folder_is_listed_once(tmp_path):
    (tmp_path / "here.mp4").touch()
    listed = Folder(str(tmp_path), EXPECTED)
    (tmp_path / "here.mp4").unlink()
    assert listed.problem("here.mp4") is None


def test_folders_that_are_none_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot list .*none: No such file.*Expected a list of birds"):
        Folder(f"{tmp_path}/none", EXPECTED)
    with pytest.raises(UsageError, match=r"cannot list .*list: Not a directory"):
        Folder(write(tmp_path, "text"), EXPECTED)
    latin = tmp_path / os.fsdecode(b"caf\xe9")
    latin.mkdir()
    with pytest.raises(UsageError, match="the path is not UTF-8"):
        Folder(str(latin), EXPECTED)


def test_lists_and_folders_lie_in_object_stores_too(tmp_path, monkeypatch):
    store = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    monkeypatch.setattr(storage, "resolve", lambda location: (store, location.removeprefix("s3://")))
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "list.csv").write_text("a,1\n")
    assert [line.fields for line in read_csv("s3://bucket/list.csv", EXPECTED)] == [["a", "1"]]
    listed = Folder("s3://bucket", EXPECTED)
    assert (listed.problem("list.csv"), listed.problem("none.csv")) == (None, "missing file")
    assert listed.path("list.csv") == "s3://bucket/list.csv"
    with pytest.raises(UsageError, match=r"nothing lies at s3://bucket/none. Expected a list of birds"):
        Folder("s3://bucket/none", EXPECTED)
