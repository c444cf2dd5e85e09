"""A folder of one's own becomes an index by its folders or a list, with splits by recording."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from cocktail.types import UsageError
from pipelines.datasets.drawn_splits import DrawnSplits
from pipelines.datasets.folder import FolderLayout, index_folder


def make(root, *names):
    """Empty files: the index opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def notes(index):
    return json.loads(index.schema.metadata[b"cocktail.notes"])


def columns(index, *names):
    return [tuple(row[name] for name in names) for row in index.to_pylist()]


def test_folders_are_classes_and_folders_in_them_recordings(tmp_path):
    make(tmp_path, "wren/a.wav", "wren/2024-05-03/0001.FLAC", "wren/2024-05-03/0002.flac", "dog, barking/b.mp4")
    index = index_folder(str(tmp_path))
    assert columns(index, "clip_id", "labels", "class_ids", "recording", "pictures") == [
        ("dog, barking/b", ["dog, barking"], [0], "dog, barking/b", None),
        ("wren/2024-05-03/0001", ["wren"], [1], "wren/2024-05-03", []),
        ("wren/2024-05-03/0002", ["wren"], [1], "wren/2024-05-03", []),
        ("wren/a", ["wren"], [1], "wren/a", []),
    ]
    assert index["media_path"][0].as_py() == f"{tmp_path}/dog, barking/b.mp4"
    assert notes(index) == []


def test_what_is_no_clip_is_left_out_and_counted(tmp_path):
    make(tmp_path, "wren/a.wav", "wren/a.txt", "wren/.b.wav", "readme.md", "wren/x/y/too-deep.wav")
    index = index_folder(str(tmp_path))
    assert index["clip_id"].to_pylist() == ["wren/a"]
    assert notes(index) == [
        "left out, not media: 1, as 'wren/a.txt'",
        "left out, beside the folders of classes: 1, as 'readme.md'",
        "left out, folders in those of recordings, with all that is in them: 1, as 'wren/x/y'",
        "left out, hidden: 1, as 'wren/.b.wav'",
    ]
    splits = FolderLayout(splits="folders")
    make(tmp_path, "wren/x/b.wav")
    assert "left out, beside the folders of classes: 3, as 'readme.md'" in notes(
        index_folder(str(tmp_path), None, splits)
    )


def test_of_a_clip_with_two_endings_the_one_with_pictures_is_taken(tmp_path):
    make(tmp_path, "wren/a.wav", "wren/a.mp4")
    index = index_folder(str(tmp_path))
    assert columns(index, "media_path", "problem") == [
        (f"{tmp_path}/wren/a.mp4", None),
        (f"{tmp_path}/wren/a.wav", "duplicate row"),
    ]


def test_a_list_says_classes_splits_and_recordings_and_what_is_not_there(tmp_path):
    make(tmp_path, "a.wav", "deep/b.wav")
    csv = tmp_path / "list.csv"
    csv.write_text(
        'class,file,recording,split\nwren,a.wav,garden,train\n"dog, barking",deep/b.wav,,test\nwren,c.wav,,\n'
    )
    index = index_folder(str(tmp_path), str(csv))
    drawn = DrawnSplits().split_of("c")
    assert columns(index, "clip_id", "labels", "recording", "split", "problem") == [
        ("a", ["wren"], "garden", "train", None),
        ("c", ["wren"], "c", drawn, "missing file"),
        ("deep/b", ["dog, barking"], "deep/b", "test", None),
    ]


def test_a_pattern_names_recordings_and_says_what_it_does_not_fit(tmp_path):
    make(tmp_path, "wren/garden_1.wav", "wren/garden_2.wav", "wren/forest.wav")
    index = index_folder(str(tmp_path), layout=FolderLayout(recording_pattern="([^/]*)_[0-9]+$"))
    assert columns(index, "clip_id", "recording") == [
        ("wren/forest", "wren/forest"), ("wren/garden_1", "garden"), ("wren/garden_2", "garden"),
    ]  # fmt: skip
    assert notes(index) == ["clips whose names the pattern of recordings does not fit: 1, as 'wren/forest'"]


def test_folders_above_those_of_classes_may_be_the_splits(tmp_path):
    make(tmp_path, "training/wren/a.wav", "held out/wren/b.wav")
    index = index_folder(str(tmp_path), layout=FolderLayout(splits="folders"))
    assert columns(index, "clip_id", "labels", "split") == [
        ("held out/wren/b", ["wren"], "held out"), ("training/wren/a", ["wren"], "training"),
    ]  # fmt: skip


def test_splits_are_drawn_by_recording_with_their_shares_and_stay_when_files_are_added(tmp_path):
    splits = DrawnSplits(val_share=0.2, test_share=0.1, split_seed=3)
    dealt = {f"recording {n}": splits.split_of(f"recording {n}") for n in range(5000)}
    shares = Counter(dealt.values())
    # Three standard deviations of 5000 draws are 85 and 64.
    assert abs(shares["val"] - 1000) < 85 and abs(shares["test"] - 500) < 64
    other = DrawnSplits(val_share=0.2, test_share=0.1, split_seed=4)
    assert sum(other.split_of(name) != split for name, split in dealt.items()) > 1500
    make(tmp_path, *(f"wren/{n}/{take}.wav" for n in range(30) for take in range(2)))
    layout = FolderLayout(drawn=DrawnSplits(val_share=0.3, test_share=0.3))
    before = dict(columns(index_folder(str(tmp_path), layout=layout), "clip_id", "split"))
    assert set(before.values()) == {"train", "val", "test"}
    assert all(before[f"wren/{n}/0"] == before[f"wren/{n}/1"] for n in range(30))
    make(tmp_path, *(f"tit/{n}.wav" for n in range(30)))
    after = dict(columns(index_folder(str(tmp_path), layout=layout), "clip_id", "split"))
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("wren,a.wav\n", r"begins with wren, a\.wav\. Expected a list with a header line"),
        ("file,label\na.wav,wren\n", "begins with file, label"),
        ("file,class,split\na.wav,wren\n", "line 2: 2 columns, and the header has 3"),
        ("file,class\na.wav,\n", "line 2: no class"),
        ("file,class\n../f/dog/d.wav,dog\n", r"line 2: \.\./f/dog/d\.wav is no path below --root"),
        ("file,class\ndog/../../d.wav,dog\n", "line 2: .* is no path below --root"),
        ("file,class\n/f/dog/d.wav,dog\n", "line 2: /f/dog/d.wav is no path below --root"),
        ("file,class\ns3://f/d.wav,dog\n", "line 2: s3://f/d.wav is no path below --root"),
        ("file,class\n", "holds no clip"),
        ("", "begins with nothing"),
    ],
)
def test_a_list_that_is_something_else_is_refused_with_its_line(tmp_path, text, told):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=told):
        index_folder(str(tmp_path), str(tmp_path / "list.csv"))


def test_settings_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(UsageError, match="must not be negative, and be less than 1 together"):
        DrawnSplits(val_share=0.5, test_share=0.5)
    make(tmp_path, "wren/a.wav")
    for pattern, told in (("wren", "has no group"), ("(", "is no regular expression")):
        with pytest.raises(UsageError, match=told):
            index_folder(str(tmp_path), layout=FolderLayout(recording_pattern=pattern))
    with pytest.raises(UsageError, match=r"holds no clip\. Expected a folder a class"):
        index_folder(str(tmp_path / "wren"))
