"""The index of VGG-Sound holds every row of the csv, and says what is wrong with which."""

import csv
import json
import os

import pytest

from cocktail.types import UsageError
from pipelines.datasets.vggsound import index_vggsound, vggss_classes


def write_csv(folder, rows):
    with (folder / "vggsound.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(folder / "vggsound.csv")


def make(folder, rows, names):
    """A csv and a folder of empty files: the index opens none."""
    (folder / "videos").mkdir()
    for name in names:
        (folder / "videos" / name).touch()
    return write_csv(folder, rows), str(folder / "videos")


def told(index, name):
    return json.loads(index.schema.metadata[f"cocktail.{name}".encode()])


def test_rows_come_in_order_with_classes_numbered_by_sorted_label(tmp_path):
    rows = [
        ("bbbbbbbbbbb", 30, "thunder", "train"),
        ("-aaaaaaaaa_", 1, "bird chirping, tweeting", "test"),
        ("bbbbbbbbbbb", 410000, "thunder", "test"),
    ]
    names = ["bbbbbbbbbbb_000030.mp4", "-aaaaaaaaa__000001.mp4", "bbbbbbbbbbb_410000.mp4", "other.mp4"]
    csv_path, videos = make(tmp_path, rows, names)
    index = index_vggsound(csv_path, videos)
    assert told(index, "classes") == ["bird chirping, tweeting", "thunder"]
    nothing = dict.fromkeys(
        ("pictures", "group", "role", "partner", "boxes", "mask_path", "nominal_pictures", "problem")
    )
    assert index.to_pylist() == [
        {
            "clip_id": f"{row[0]}_{row[1]:06d}",
            "recording": row[0],
            "media_path": f"{videos}/{name}",
            "audio_track": 0,
            "labels": [row[2]],
            "class_ids": [class_id],
            "split": row[3],
            "nominal_seconds": 10.0,
            **nothing,
        }
        for row, name, class_id in zip(rows, names, (1, 0, 1), strict=False)
    ]


def test_what_is_wrong_with_a_row_is_known_without_opening_a_file(tmp_path):
    clips = {"here": None, "gone": "missing file", "name": "undecodable file name", "both": None}
    rows = [(name, 7, "thunder", "train") for name in (*clips, "here", "gone")]
    names = [b"here_000007.mp4", b"both_000007.mp4", b"name_000007_caf\xe9.mp4", b"both_000007_caf\xe9.mp4"]
    csv_path, videos = make(tmp_path, rows, [])
    for name in (*names, b"gone_000007.webm", b"gone_000007_other.mp4"):
        (tmp_path / "videos" / os.fsdecode(name)).touch()
    assert index_vggsound(csv_path, videos)["problem"].to_pylist() == [
        *clips.values(),
        "duplicate row",
        "duplicate row",
    ]


def test_a_byte_order_mark_and_empty_lines_do_not_matter(tmp_path):
    csv_path, videos = make(tmp_path, [], ["aaaa_000001.mp4"])
    (tmp_path / "vggsound.csv").write_text("\ufeffaaaa,1,thunder,train\n\n", encoding="utf-8")
    assert index_vggsound(csv_path, videos)["clip_id"].to_pylist() == ["aaaa_000001"]


def vggss_of(folder, *labels):
    """A vggss.json with an item of each class."""
    path = folder / "vggss.json"
    path.write_text(json.dumps([{"file": "a", "class": label, "bbox": []} for label in labels]))
    return str(path)


def test_chosen_classes_are_numbered_among_themselves_and_the_others_are_counted(tmp_path):
    labels = ["thunder", "airplane", "yodelling", "airplane", "bird chirping, tweeting"]
    rows = [(f"clip{number}", 1, label, "train") for number, label in enumerate(labels)]
    csv_path, videos = make(tmp_path, rows, [f"clip{number}_000001.mp4" for number in range(5)])
    index = index_vggsound(csv_path, videos, vggss_of(tmp_path, "yodelling", "airplane"))
    assert index["clip_id"].to_pylist() == ["clip1_000001", "clip2_000001", "clip3_000001"]
    assert index["class_ids"].to_pylist() == [[0], [1], [0]]
    assert told(index, "classes") == ["airplane", "yodelling"]
    assert told(index, "notes") == ["2 of 5 clips are of other classes"]
    assert told(index_vggsound(csv_path, videos), "notes") == []


def test_a_class_that_the_csv_does_not_have_is_refused(tmp_path):
    csv_path, videos = make(tmp_path, [("aaaa", 1, "thunder", "train")], ["aaaa_000001.mp4"])
    with pytest.raises(UsageError, match="no clip of 2 of the 3 classes, as 'hail'"):
        index_vggsound(csv_path, videos, vggss_of(tmp_path, "thunder", "hail", "raining"))


def test_the_classes_of_vggss_are_those_that_occur_in_it_sorted(tmp_path):
    path = vggss_of(tmp_path, "thunder", "bee, wasp, etc. buzzing", "thunder")
    assert vggss_classes(path) == ["bee, wasp, etc. buzzing", "thunder"]


@pytest.mark.parametrize("text", ['{"class": "thunder"}', '["thunder"]', '[{"file": "a"}]', "thunder", "[]"])
def test_what_is_no_vggss_names_no_classes(tmp_path, text):
    (tmp_path / "vggss.json").write_text(text)
    with pytest.raises(UsageError, match=r"vggss.json .*Expected the released vggss.json"):
        vggss_classes(str(tmp_path / "vggss.json"))


@pytest.mark.parametrize(
    ("second_line", "told"),
    [
        ("aaaa_000001.mp4,thunder", r"line 2: 2 columns: \['aaaa_000001.mp4', 'thunder'\]. Expected 4: .* id, start"),
        ("aaaa,1,bird chirping, tweeting,train", "line 2: 5 columns"),
        ("aaaa,start,thunder,train", "line 2: start second 'start'. Expected a whole number"),
        ("aaaa,-1,thunder,train", "line 2: start second '-1'"),
        ("aaaa,1.5,thunder,train", "line 2: start second '1.5'"),
        ("aaaa,1234567,thunder,train", "line 2: start second '1234567'"),
        ("aaaa,²,thunder,train", "line 2: start second '²'"),
        ("aaaa,1,thunder,valid", "line 2: split 'valid'. Expected one of train, test"),
        (",1,thunder,train", "line 2: no id"),
        ("aaaa,1,,train", "line 2: no label"),
        ('aaaa,1,"thunder,train', "line 2: .*Expected the released vggsound.csv"),
    ],
)
def test_a_csv_that_is_another_is_refused_with_the_line(tmp_path, second_line, told):
    csv_path, videos = make(tmp_path, [], ["aaaa_000001.mp4"])
    (tmp_path / "vggsound.csv").write_text(f"aaaa,1,thunder,train\n{second_line}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=told) as caught:
        index_vggsound(csv_path, videos)
    assert csv_path in str(caught.value)


def test_absent_empty_or_foreign_inputs_are_refused(tmp_path):
    csv_path, videos = make(tmp_path, [("aaaa", 1, "thunder", "train")], ["unrelated.mp4"])
    with pytest.raises(UsageError, match=r"no file .*none.csv. Expected the released vggsound.csv"):
        index_vggsound(f"{tmp_path}/none.csv", videos)
    with pytest.raises(UsageError, match=r"cannot list .*none: No such file"):
        index_vggsound(csv_path, f"{tmp_path}/none")
    with pytest.raises(UsageError, match=r"holds none of the 1 clips .*first one aaaa_000001.mp4"):
        index_vggsound(csv_path, videos)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(UsageError, match=r"empty.csv is empty"):
        index_vggsound(f"{tmp_path}/empty.csv", videos)
    (tmp_path / "latin.csv").write_bytes(b"aaaa,1,caf\xe9,train\n")
    with pytest.raises(UsageError, match=r"cannot read .*latin.csv"):
        index_vggsound(f"{tmp_path}/latin.csv", videos)
