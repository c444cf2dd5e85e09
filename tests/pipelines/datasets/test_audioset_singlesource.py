"""The index of AudioSet-SingleSource takes folders as labels, and says what it leaves out."""

import json
import os

import pytest

from cocktail.types import UsageError
from pipelines.datasets.audioset_singlesource import index_audioset_singlesource


def make(root, *names):
    """Empty files: the index opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def notes(index):
    return json.loads(index.schema.metadata[b"cocktail.notes"])


def test_every_media_file_is_a_test_clip_labelled_by_its_folder(tmp_path):
    make(tmp_path, "violin/b.v2.mp4", "violin/a.webm", "acoustic_guitar/-x_1.MKV", "Race car, auto racing/a.mp4")
    index = index_audioset_singlesource(str(tmp_path))
    assert [(row["clip_id"], row["labels"], row["class_ids"]) for row in index.to_pylist()] == [
        ("Race car, auto racing/a", ["Race car, auto racing"], [0]),
        ("acoustic_guitar/-x_1", ["acoustic_guitar"], [1]),
        ("violin/a", ["violin"], [2]),
        ("violin/b.v2", ["violin"], [2]),
    ]
    assert index["media_path"][1].as_py() == f"{tmp_path}/acoustic_guitar/-x_1.MKV"
    assert set(index["split"].to_pylist()) == {"test"}
    assert set(index["pictures"].to_pylist()) == {None}
    assert set(index["problem"].to_pylist()) == {None}
    assert notes(index) == [
        "files that are not named by a YouTube id, each taken for a recording of its own: 4, as "
        f"'{tmp_path}/Race car, auto racing/a.mp4'"
    ]


@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "m4a"])
def test_sound_files_are_taken_without_pictures(tmp_path, ending):
    make(tmp_path, "dog/aaaaaaaaaaa.mp4", f"dog/bbbbbbbbbbb.{ending}")
    index = index_audioset_singlesource(str(tmp_path))
    assert index["pictures"].to_pylist() == [None, []]
    assert notes(index) == [f"sound files, without pictures: 1, as '{tmp_path}/dog/bbbbbbbbbbb.{ending}'"]


def test_a_clip_with_two_endings_is_taken_once_with_pictures_if_it_has_them(tmp_path):
    make(tmp_path, "dog/a.flac", "dog/a.mp4", "dog/b.mp4", "cat/a.mp4")
    rows = index_audioset_singlesource(str(tmp_path)).to_pylist()
    assert [(row["clip_id"], row["media_path"].rpartition(".")[2], row["problem"]) for row in rows] == [
        ("cat/a", "mp4", None),
        ("dog/a", "mp4", None),
        ("dog/a", "flac", "duplicate row"),
        ("dog/b", "mp4", None),
    ]


def test_what_is_left_out_is_counted_and_an_empty_label_is_no_class(tmp_path):
    make(tmp_path, "dog/aaaaaaaaaaa.mp4", "dog/a.json", "dog/.hidden.mp4", "cat/readme", "list.csv", "._dog")
    (tmp_path / "cow").mkdir()
    for name in (b"/dog/caf\xe9.mp4", b"/caf\xe9"):
        with open(os.fsencode(tmp_path) + name, "wb"):  # noqa: PTH123
            pass
    index = index_audioset_singlesource(str(tmp_path))
    assert json.loads(index.schema.metadata[b"cocktail.classes"]) == ["dog"]
    assert notes(index) == [
        "label folders without a clip: 2, as 'cat'",
        "left out, not media: 3, as 'cat/readme'",
        "left out, beside the label folders: 2, as '._dog'",
        "left out, the name is not UTF-8 (rename it): 2",
    ]


def test_a_root_without_label_folders_is_refused_with_what_was_found(tmp_path):
    make(tmp_path, "a.mp4")
    with pytest.raises(
        UsageError, match=r"no clip; left out, beside the label folders: 1, as 'a.mp4'. Expected a fold"
    ):
        index_audioset_singlesource(str(tmp_path))
    with pytest.raises(UsageError, match=r"cannot list .*nowhere"):
        index_audioset_singlesource(str(tmp_path / "nowhere"))
