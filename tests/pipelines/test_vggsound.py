"""The index of VGG-Sound holds every row of the csv, and says what is wrong with which."""

import csv
import json
import os

import pytest

from cocktail.types import UsageError
from pipelines.vggsound import index_vggsound


def write_csv(folder, rows):
    with (folder / "vggsound.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder / "vggsound.csv"


def make(folder, rows, names):
    """A csv and a folder of empty files: the index opens none."""
    (folder / "videos").mkdir()
    for name in names:
        (folder / "videos" / name).touch()
    return write_csv(folder, rows), folder / "videos"


def test_rows_come_in_order_with_classes_numbered_by_sorted_label(tmp_path):
    rows = [
        ("bbbbbbbbbbb", 30, "thunder", "train"),
        ("-aaaaaaaaa_", 1, "bird chirping, tweeting", "test"),
        ("bbbbbbbbbbb", 410000, "thunder", "test"),
    ]
    names = ["bbbbbbbbbbb_000030.mp4", "-aaaaaaaaa__000001.mp4", "bbbbbbbbbbb_410000.mp4", "other.mp4"]
    videos = tmp_path / "videos"
    index = index_vggsound(*make(tmp_path, rows, names))
    assert json.loads(index.schema.metadata[b"cocktail.classes"]) == ["bird chirping, tweeting", "thunder"]
    assert index.drop(["media_path"]).to_pylist() == [
        {
            "clip_id": f"{row[0]}_{row[1]:06d}",
            "start_seconds": row[1],
            "label": row[2],
            "class_id": class_id,
            "split": row[3],
            "problem": None,
        }
        for row, class_id in zip(rows, (1, 0, 1), strict=True)
    ]
    assert index["media_path"].to_pylist() == [str(videos / name) for name in names[:3]]


def test_what_is_wrong_with_a_row_is_known_without_opening_a_file(tmp_path):
    clips = {"here": None, "gone": "missing file", "name": "undecodable file name", "both": None}
    rows = [(name, 7, "thunder", "train") for name in (*clips, "here", "gone")]
    names = [b"here_000007.mp4", b"both_000007.mp4", b"name_000007_caf\xe9.mp4", b"both_000007_caf\xe9.mp4"]
    csv_path, videos = make(tmp_path, rows, [])
    for name in (*names, b"gone_000007.webm", b"gone_000007_other.mp4"):
        (videos / os.fsdecode(name)).touch()
    assert index_vggsound(csv_path, videos)["problem"].to_pylist() == [
        *clips.values(),
        "duplicate row",
        "duplicate row",
    ]


def test_a_byte_order_mark_and_empty_lines_do_not_matter(tmp_path):
    csv_path, videos = make(tmp_path, [], ["aaaa_000001.mp4"])
    csv_path.write_text("\ufeffaaaa,1,thunder,train\n\n", encoding="utf-8")
    assert index_vggsound(csv_path, videos)["clip_id"].to_pylist() == ["aaaa_000001"]


@pytest.mark.parametrize(
    ("second_line", "told"),
    [
        ("aaaa_000001.mp4,thunder", r"line 2: 2 columns: \['aaaa_000001.mp4', 'thunder'\]. Expected four: id"),
        ("aaaa,1,bird chirping, tweeting,train", "line 2: 5 columns"),
        ("aaaa,start,thunder,train", "line 2: start second 'start'. Expected a whole number"),
        ("aaaa,-1,thunder,train", "line 2: start second '-1'"),
        ("aaaa,1.5,thunder,train", "line 2: start second '1.5'"),
        ("aaaa,1,thunder,valid", "line 2: split 'valid'. Expected one of train, test"),
        (",1,thunder,train", "line 2: no id"),
        ("aaaa,1,,train", "line 2: no label"),
        ('aaaa,1,"thunder,train', "cannot read .* as csv"),
    ],
)
def test_a_csv_that_is_another_is_refused_with_the_line(tmp_path, second_line, told):
    csv_path, videos = make(tmp_path, [], ["aaaa_000001.mp4"])
    csv_path.write_text(f"aaaa,1,thunder,train\n{second_line}\n")
    with pytest.raises(UsageError, match=told) as caught:
        index_vggsound(csv_path, videos)
    assert str(csv_path) in str(caught.value)


def test_absent_empty_or_foreign_inputs_are_refused(tmp_path):
    csv_path, videos = make(tmp_path, [("aaaa", 1, "thunder", "train")], ["unrelated.mp4"])
    with pytest.raises(UsageError, match=r"no csv at .*none.csv"):
        index_vggsound(tmp_path / "none.csv", videos)
    with pytest.raises(UsageError, match=r"cannot list .*none: No such file"):
        index_vggsound(csv_path, tmp_path / "none")
    with pytest.raises(UsageError, match=r"holds none of the 1 clips .*first one aaaa_000001.mp4"):
        index_vggsound(csv_path, videos)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(UsageError, match=r"empty.csv is empty"):
        index_vggsound(tmp_path / "empty.csv", videos)
    (tmp_path / "latin.csv").write_bytes(b"aaaa,1,caf\xe9,train\n")
    with pytest.raises(UsageError, match=r"cannot read .*latin.csv"):
        index_vggsound(tmp_path / "latin.csv", videos)
