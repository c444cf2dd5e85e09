"""An index says of every clip all that its row said, and counts each clip id once."""

import json

import pytest

from cocktail.types import UsageError
from pipelines.datasets.index import INDEX_SCHEMA, Box, IndexRow, PictureFile, make_index, require_shares


def row(clip_id, labels=("horn",), **fields):
    return IndexRow(
        clip_id=clip_id,
        recording=f"video of {clip_id}",
        media_path=f"/media/{clip_id}",
        labels=labels,
        split="train",
        nominal_seconds=4.0,
        **fields,
    )


def test_a_row_with_everything_keeps_everything():
    full = row(
        "full",
        labels=("violin", "horn"),
        audio_track=2,
        pictures=(PictureFile("/a.jpg", 0.5), PictureFile("/b.jpg", 1.5)),
        group="song",
        role="bass",
        partner="other",
        boxes=(Box(0, "violin", 0.1, 0.2, 0.3, 0.4), Box(1, None, 0.0, 0.0, 1.0, 1.0)),
        mask_path="/mask.png",
        nominal_pictures=7,
    )
    index = make_index([full], ["horn", "violin"])
    assert index.to_pylist() == [
        {
            "clip_id": "full",
            "recording": "video of full",
            "media_path": "/media/full",
            "audio_track": 2,
            "pictures": [{"path": "/a.jpg", "seconds": 0.5}, {"path": "/b.jpg", "seconds": 1.5}],
            "labels": ["violin", "horn"],
            "class_ids": [1, 0],
            "split": "train",
            "group": "song",
            "role": "bass",
            "partner": "other",
            "boxes": [
                {"picture": 0, "class_id": 1, "x0": 0.1, "y0": 0.2, "x1": 0.3, "y1": 0.4},
                {"picture": 1, "class_id": None, "x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 1.0},
            ],
            "mask_path": "/mask.png",
            "nominal_seconds": 4.0,
            "nominal_pictures": 7,
            "problem": None,
        }
    ]


def test_what_is_unknown_stays_apart_from_what_is_known_to_be_none():
    index = make_index([row("unknown"), row("none", labels=(), pictures=(), boxes=())], ["horn"])
    assert index["pictures"].to_pylist() == [None, []]
    assert index["boxes"].to_pylist() == [None, []]
    assert index["class_ids"].to_pylist() == [[0], []]


def test_labels_outside_the_classes_have_no_class_id_and_stay():
    boxes = (Box(0, "gong", 0.0, 0.0, 1.0, 1.0),)
    index = make_index([row("a", labels=("gong", "horn"), boxes=boxes)], ["flute", "horn"])
    assert index["labels"].to_pylist() == [["gong", "horn"]]
    assert index["class_ids"].to_pylist() == [[1]]
    assert index["boxes"].to_pylist()[0][0]["class_id"] is None


def test_rows_keep_their_order_and_every_index_has_the_same_schema():
    index = make_index((row(clip_id) for clip_id in "cab"), ["horn"])
    assert index["clip_id"].to_pylist() == ["c", "a", "b"]
    assert index.schema.equals(INDEX_SCHEMA)


def test_of_rows_with_one_clip_id_the_first_is_judged_and_the_others_are_problems():
    rows = [row("a"), row("b", problem="missing file"), row("a", problem="missing file"), row("b"), row("a")]
    assert make_index(rows, ["horn"])["problem"].to_pylist() == [
        None,
        "missing file",
        "duplicate row",
        "duplicate row",
        "duplicate row",
    ]


def test_classes_and_notes_travel_with_the_table():
    metadata = make_index([row("a")], ["horn", "güiro, scraped"], ["2 clips left out", "1 without"]).schema.metadata
    assert json.loads(metadata[b"cocktail.classes"]) == ["horn", "güiro, scraped"]
    assert json.loads(metadata[b"cocktail.notes"]) == ["2 clips left out", "1 without"]
    assert json.loads(make_index([row("a")], ["horn"]).schema.metadata[b"cocktail.notes"]) == []


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "none of the 0 clips"),
        ([row("a", problem="missing file"), row("a")], "none of the 2 clips .*missing file.*/media/a"),
    ],
)
def test_an_index_without_a_usable_clip_is_refused(rows, told):
    with pytest.raises(UsageError, match=told):
        make_index(rows, ["horn"])


def row_of(clip_id: str, recording: str, split: str, label: str = "bell") -> IndexRow:
    return IndexRow(
        clip_id=clip_id, recording=recording, media_path="", labels=(label,), split=split, nominal_seconds=1.0
    )


def test_a_recording_on_both_sides_is_said():
    index = make_index(
        [row_of("a", "one", "train"), row_of("b", "one", "test"), row_of("c", "two", "train")], ["bell"], ["ours"]
    )
    assert json.loads(index.schema.metadata[b"cocktail.notes"]) == [
        "ours",
        "1 recordings have clips in more than one split (test, train), as 'one': "
        "what is tested may have been trained on",
    ]
    apart = make_index([row_of("a", "one", "train"), row_of("c", "two", "test")], ["bell"])
    assert json.loads(apart.schema.metadata[b"cocktail.notes"]) == []


@pytest.mark.parametrize("name", ["x" * 1001, "\ud800"])
def test_names_that_no_manifest_may_hold_are_refused(name):
    with pytest.raises(UsageError, match="is no name: expected text of up to 1000 letters"):
        make_index([row_of("a", "one", "train", name)], [name])
    with pytest.raises(UsageError, match="is no name"):
        make_index([row_of(name, "one", "train")], ["bell"])


def test_boxes_in_pixels_are_named_for_what_they_are():
    share, pixels, none = [-0.1, 0.0, 1.2, 1.0], [34, 20, 200, 180], [0.5, 0.5, 1e300, 1e300]
    require_shares([share, share, pixels, none, none], "a list")
    require_shares([], "a list")
    with pytest.raises(
        UsageError, match=r"a list: 2 of 3 boxes are in pixels, as \[34, 20, 200, 180\].*divide by them"
    ):
        require_shares([share, pixels, pixels], "a list")
