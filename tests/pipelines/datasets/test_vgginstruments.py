"""The index of VGGSound-Instruments trains on no test clip, and finds the marked frames by their lists alone."""

import csv
import json

import pytest

from cocktail.types import UsageError
from jobs.shard_vgginstruments import ShardVGGInstruments
from pipelines.datasets.vgginstruments import CLASSES, index_vgginstruments

# id, start, label, split; only the first three are clips to train on.
ROWS = [
    ("aaaaaaaaaaa", 30, "playing violin, fiddle", "train"),
    ("-bbbbbbbbb_", 1, "playing accordion", "train"),
    ("ccccccccccc", 410000, "playing steel guitar, slide guitar", "train"),
    ("ddddddddddd", 7, "playing accordion", "test"),
    ("eeeeeeeeeee", 7, "playing badminton", "train"),
    ("fffffffffff", 7, "playing bassoon", "train"),
]
A, B, C, D, E, F = (f"{row[0]}_{row[1]:06d}" for row in ROWS)
SAMPLES = {"sample0000": "accordion", "sample0007": "hammond_organ", "sample0009": "xylophone"}


def write_csv(folder, name, rows):
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(folder / name)


def make(folder, rows=ROWS):
    """A csv and a folder of empty files: the index opens none."""
    (folder / "videos").mkdir()
    for row in rows:
        (folder / "videos" / f"{row[0]}_{row[1]:06d}.mp4").touch()
    return write_csv(folder, "vggsound.csv", rows), str(folder / "videos")


def make_test_set(folder, masks=("sample0000.pkl", "sample0007", "sample0009.mask.pickle")):
    """Frames, sounds, masks and the list of samples, as options of the index."""
    names = {"frames": [f"{sample}.jpg" for sample in SAMPLES], "audio": [f"{sample}.wav" for sample in SAMPLES]}
    for kind, files in (names | {"masks": masks}).items():
        (folder / "test" / kind).mkdir(parents=True)
        for name in (*files, "sample0001.jpg", ".DS_Store"):
            (folder / "test" / kind / name).touch()
    return {"test": str(folder / "test"), "test_list": write_csv(folder, "test.csv", list(SAMPLES.items()))}


def notes(index):
    return [note for note in json.loads(index.schema.metadata[b"cocktail.notes"]) if "of 37 classes" not in note]


def test_there_are_37_classes_each_one_class_of_vggsound():
    assert len(CLASSES) == 37
    assert list(CLASSES) == sorted(CLASSES)
    named_otherwise = {name for name, label in CLASSES.items() if label != f"playing {name}".replace("_", " ")}
    assert named_otherwise == {"steel_guitar", "violin", "xylophone"}
    assert CLASSES["steel_guitar"] == "playing steel guitar, slide guitar"
    assert CLASSES["violin"] == "playing violin, fiddle"
    assert CLASSES["xylophone"] == "playing marimba, xylophone"
    assert CLASSES["electronic_organ"] == "playing electronic organ"


def test_train_clips_of_the_instruments_come_in_order_under_their_short_names(tmp_path):
    csv_path, videos = make(tmp_path)
    index = index_vgginstruments(csv_path, videos)
    assert index["clip_id"].to_pylist() == [A, B, C]
    assert index["labels"].to_pylist() == [["violin"], ["accordion"], ["steel_guitar"]]
    classes = json.loads(index.schema.metadata[b"cocktail.classes"])
    assert classes == list(CLASSES)
    assert [classes[ids[0]] for ids in index["class_ids"].to_pylist()] == ["violin", "accordion", "steel_guitar"]
    assert set(index["split"].to_pylist()) == {"train"}
    assert index["media_path"].to_pylist() == [f"{videos}/{clip}.mp4" for clip in (A, B, C)]
    assert index["pictures"].to_pylist() == [None] * 3
    assert index["problem"].to_pylist() == [None] * 3


def test_clips_of_the_test_split_are_left_out_and_counted(tmp_path):
    csv_path, videos = make(tmp_path)
    index = index_vgginstruments(csv_path, videos)
    assert json.loads(index.schema.metadata[b"cocktail.notes"]) == [
        f"1 clips of vggsound.csv's test split are left out; the first: {D}",
        "34 of 37 classes have no train clip; the first: acoustic_guitar",
    ]


def test_excluded_clips_are_left_out_and_those_that_were_are_counted(tmp_path):
    csv_path, videos = make(tmp_path)
    (tmp_path / "exclude.txt").write_text(f"\ufeff{A}\n\n  {B} \n{D}\n{E}\n", encoding="utf-8")
    index = index_vgginstruments(csv_path, videos, exclude=str(tmp_path / "exclude.txt"))
    assert index["clip_id"].to_pylist() == [C]
    assert f"2 train clips are excluded; the first: {A}" in notes(index)


def test_an_excluded_clip_that_the_csv_does_not_have_is_refused(tmp_path):
    csv_path, videos = make(tmp_path)
    (tmp_path / "exclude.txt").write_text(f"{A}\n{A}.mp4\nother\n")
    with pytest.raises(UsageError, match=rf"exclude.txt: .*vggsound.csv has no clip '{A}.mp4'.*1 other"):
        index_vgginstruments(csv_path, videos, exclude=str(tmp_path / "exclude.txt"))


def test_what_is_no_vggsound_of_instruments_is_refused(tmp_path):
    csv_path, videos = make(tmp_path)
    with pytest.raises(UsageError, match=r"cannot list .*none"):
        index_vgginstruments(csv_path, f"{tmp_path}/none")
    with pytest.raises(UsageError, match="none of the 3 clips"):
        index_vgginstruments(csv_path, str(tmp_path))
    write_csv(tmp_path, "vggsound.csv", ROWS[4:])
    with pytest.raises(UsageError, match="no clip of the 37 instruments, as 'playing violin, fiddle'"):
        index_vgginstruments(csv_path, videos)


def test_marked_samples_follow_with_their_own_sound_frame_and_mask(tmp_path):
    test = make_test_set(tmp_path)
    index = index_vgginstruments(*make(tmp_path), **test)
    rows = index.to_pylist()[3:]
    folder = test["test"]
    assert [row["clip_id"] for row in rows] == list(SAMPLES)
    assert [row["labels"] for row in rows] == [[name] for name in SAMPLES.values()]
    assert [row["media_path"] for row in rows] == [f"{folder}/audio/{sample}.wav" for sample in SAMPLES]
    assert [row["pictures"] for row in rows] == [
        [{"path": f"{folder}/frames/{sample}.jpg", "seconds": 0.0}] for sample in SAMPLES
    ]
    masks = ["sample0000.pkl", "sample0007", "sample0009.mask.pickle"]
    assert [row["mask_path"] for row in rows] == [f"{folder}/masks/{name}" for name in masks]
    assert {row["split"] for row in rows} == {"test"}
    assert [row["problem"] for row in rows] == [row["partner"] for row in rows] == [None] * 3
    assert index["class_ids"].to_pylist()[3:] == [[list(CLASSES).index(name)] for name in SAMPLES.values()]


def test_a_mask_that_was_converted_is_taken_before_the_released_one(tmp_path):
    names = ["sample0000", "sample0000.npy", "sample0000.png", "sample0007.npy", "sample0007.a", "sample0009.zip"]
    index = index_vgginstruments(*make(tmp_path), **make_test_set(tmp_path, names))
    taken = [path.rpartition("/")[2] for path in index["mask_path"].to_pylist()[3:]]
    assert taken == ["sample0000.npy", "sample0007.npy", "sample0009.zip"]


@pytest.mark.parametrize("kind", ["audio", "frames", "masks"])
def test_a_sample_without_sound_frame_or_mask_is_a_problem_and_counted(tmp_path, kind):
    test = make_test_set(tmp_path)
    next((tmp_path / "test" / kind).glob("sample0007*")).unlink()
    index = index_vgginstruments(*make(tmp_path), **test)
    assert index["problem"].to_pylist()[3:] == [None, "missing file", None]
    assert f"1 samples have no file in {kind}; the first: sample0007" in notes(index)


def test_partners_come_from_their_list(tmp_path):
    test = make_test_set(tmp_path)
    multi = [
        ("sample0000", "accordion", "sample0009", "xylophone"),
        ("sample0007", "hammond_organ", "sample0009", "xylophone"),
        ("sample0009", "xylophone", "sample0008", "guiro"),
    ]
    path = write_csv(tmp_path, "multi.csv", multi)
    index = index_vgginstruments(*make(tmp_path), **test, multi=path)
    assert index["partner"].to_pylist() == [None] * 3 + ["sample0009", "sample0009", "sample0008"]
    assert "1 partners in multi.csv are not in this data set; the first: sample0008 of sample0009" in notes(index)


def test_the_same_files_at_another_place_are_told_of_with_the_same_words(tmp_path):
    indexes = []
    for place in (tmp_path / "here", tmp_path / "there"):
        place.mkdir()
        test = make_test_set(place, ["sample0000.png"])
        (place / "test" / "audio" / "sample0000.wav").unlink()
        (place / "test" / "frames" / "sample0000.jpg").unlink()
        multi = write_csv(
            place, "multi.csv", [("sample0000", "accordion", "sample0008", "guiro"), ("x", "y", "x", "y")]
        )
        (place / "exclude.txt").write_text(f"{A}\n")
        indexes.append(index_vgginstruments(*make(place), **test, multi=multi, exclude=str(place / "exclude.txt")))
    here, there = indexes
    assert len(notes(here)) == 8
    assert here.schema.metadata == there.schema.metadata
    assert str(tmp_path) not in str(here.schema.metadata)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("sample0000", "playing accordion")], "class 'playing accordion'. Expected one of accordion, "),
        ([("sample0000",)], "line 1: 1 columns"),
        ([], "test.csv is empty"),
        ([("sample0000", "accordion"), ("sample0000", "banjo")], "line 2: sample0000 is listed before"),
    ],
)
def test_a_list_of_samples_that_is_another_is_refused(tmp_path, rows, told):
    test = make_test_set(tmp_path)
    write_csv(tmp_path, "test.csv", rows)
    with pytest.raises(UsageError, match=told):
        index_vgginstruments(*make(tmp_path), **test)


@pytest.mark.parametrize("given", [("test",), ("test_list",), ("multi",), ("test_list", "multi")])
def test_half_a_test_set_is_refused(tmp_path, given):
    options = make_test_set(tmp_path) | {"multi": write_csv(tmp_path, "multi.csv", [])}
    with pytest.raises(UsageError, match="give both, or neither"):
        index_vgginstruments(*make(tmp_path), **{name: options[name] for name in given})


def test_a_test_set_without_one_of_its_folders_is_refused(tmp_path):
    test = make_test_set(tmp_path)
    (tmp_path / "test" / "masks").rename(tmp_path / "test" / "labels")
    with pytest.raises(UsageError, match=r"cannot list .*test/masks: .*Expected the folder of marked frames"):
        index_vgginstruments(*make(tmp_path), **test)


def test_the_job_hands_on_every_option(tmp_path):
    csv_path, videos = make(tmp_path)
    (tmp_path / "exclude.txt").write_text(f"{A}\n")
    test = make_test_set(tmp_path)
    job = ShardVGGInstruments(
        csv=csv_path,
        videos=videos,
        shards="none",
        exclude=str(tmp_path / "exclude.txt"),
        multi=write_csv(tmp_path, "multi.csv", [("sample0000", "accordion", "sample0009", "xylophone")]),
        test=test["test"],
        test_list=test["test_list"],
    )
    assert job.settings.dataset == "vgginstruments"
    index = index_vgginstruments(**job.sources())
    assert index["clip_id"].to_pylist() == [B, C, *SAMPLES]
    assert index["partner"].to_pylist() == [None, None, "sample0009", None, None]
