"""The index of IS3 has a row an object of a scene, with its own sound and its box or mask: a toy of the release."""

import json

import pytest

from cocktail.types import UsageError
from pipelines.datasets.is3 import index_is3

ITEMS = {
    "accordion_baby_10467_accordion": [56.0, 112.0, 168.0, 224.0],
    "accordion_baby_10467_baby": [0.0, 0.0, 300.0, 28.0],
    "fireworks_subwaytrain_10415_subway": [100.0, 20.0, 100.0, 80.0],
}
A, B, C = ITEMS


def make(root, items=ITEMS, sounds="audio_waw"):
    """The release's folders with empty files: the index opens none but the list."""
    for folder, ending in (("images", "jpg"), (sounds, "wav"), ("gt_segmentation", "jpg")):
        (root / folder).mkdir()
        for name in ITEMS:
            (root / folder / f"{name}.{ending}").touch()
    written = [
        {"image": f"/theirs/visual_frames/{name}.jpg", "audio": f"/theirs/audio_wav/{name}.wav", "gt_box": box}
        for name, box in items.items()
    ]
    (root / "IS3_annotation.json").write_text(json.dumps(written))
    return str(root)


def notes(index):
    return json.loads(index.schema.metadata[b"cocktail.notes"])


@pytest.mark.parametrize("sounds", ["audio_waw", "audio_wav"])
def test_each_object_has_its_own_sound_its_box_and_the_recording_of_its_scene(tmp_path, sounds):
    root = make(tmp_path, sounds=sounds)
    rows = index_is3(root).to_pylist()
    assert [row["clip_id"] for row in rows] == [A, B, C]
    assert [row["labels"] for row in rows] == [["accordion"], ["baby"], ["subway"]]
    assert [row["class_ids"] for row in rows] == [[0], [1], [2]]
    scene = "accordion_baby_10467"
    assert [row["recording"] for row in rows] == [scene, scene, "fireworks_subwaytrain_10415"]
    assert rows[0]["media_path"] == f"{root}/{sounds}/{A}.wav"
    assert rows[0]["pictures"] == [{"path": f"{root}/images/{A}.jpg", "seconds": 0.0}]
    corners = [[[box[name] for name in ("x0", "y0", "x1", "y1")] for box in row["boxes"]] for row in rows]
    assert corners == [[[0.25, 0.5, 0.75, 1.0]], [[0.0, 0.0, 1.0, 0.125]], []]
    assert [row["problem"] for row in rows] == [None, None, "empty truth"]
    assert {row["split"] for row in rows} == {"test"} and {row["mask_path"] for row in rows} == {None}


def test_masks_are_the_truth_in_place_of_boxes_where_they_are_asked_for(tmp_path):
    root = make(tmp_path)
    (tmp_path / "gt_segmentation" / f"{B}.jpg").rename(tmp_path / "gt_segmentation" / f"{B}.png")
    (tmp_path / "gt_segmentation" / f"{A}.jpg").unlink()
    index = index_is3(root, truth="masks")
    folder = f"{root}/gt_segmentation"
    assert index["mask_path"].to_pylist() == [None, f"{folder}/{B}.png", f"{folder}/{C}.jpg"]
    assert index["boxes"].to_pylist() == [None] * 3
    assert index["problem"].to_pylist() == ["missing file", None, None]  # the box without an area does not matter
    assert notes(index) == [f"1 objects lack a file below {tmp_path.name}; the first: {A}"]


def test_a_list_of_the_authors_is_taken_and_files_that_are_not_there_are_counted(tmp_path):
    root = make(tmp_path)
    elsewhere = tmp_path / "synthetic3240_bbox.json"
    (tmp_path / "IS3_annotation.json").rename(elsewhere)
    (tmp_path / "images" / f"{B}.jpg").unlink()
    index = index_is3(root, annotations=str(elsewhere))
    assert index["problem"].to_pylist() == [None, "missing file", "empty truth"]
    with pytest.raises(UsageError, match=r"no file .*IS3_annotation\.json"):
        index_is3(root)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "holds no list of objects"),
        ('[{"image": "a_b.jpg"}]', "item 0 is .*Expected IS3 as released"),
        ('[{"image": "a.jpg", "audio": "a.wav", "gt_box": [0, 0, 2, 2]}]', "image 'a.jpg'. Expected <scene>_<object>"),
        ('[{"image": "a_b.jpg", "audio": "a_b.wav", "gt_box": [0, 0, 2]}]', "a_b: box .*Expected four finite numbers"),
        ('[{"image": "a_b.jpg", "audio": "a_b.wav", "gt_box": [0, 0, 0.5, 1]}]', "in shares of the picture"),
        ('[{"image": "a_b.jpg", "audio": "a_b.wav"}]', "has no gt_box: give --truth masks"),
    ],
)
def test_a_list_of_something_else_is_refused(tmp_path, text, told):
    root = make(tmp_path)
    (tmp_path / "IS3_annotation.json").write_text(text)
    with pytest.raises(UsageError, match=told):
        index_is3(root)
