"""Boxes around the instruments of MUSIC, as others released them, on pictures of its clips."""

import math

import pytest

from cocktail.types import UsageError
from tests.made.corpora.released_music import (
    BOX,
    CORNERS,
    boxes,
    dsol,
    frame,
    index,
    make,
    names,
    notes,
    seconds,
    video,
    write_json,
)


def test_a_box_is_turned_to_corners_on_the_frame_nearest_in_time(tmp_path):
    solo = make(tmp_path, 24, cello=[1, 2, 3], flute=[4])
    # At 8 frames a second file n is at (n - 1) / 8 s: 37 / 30 s is nearest to 1.25 s, file 11; 14 / 30 s to 0.5 s.
    given = {(video(1), 1, 37): [(12, BOX), (1, [0, 0, 1, 1])], (video(1), 0, 14): [(1, BOX)], (video(2), 0, 0): []}
    path = write_json(tmp_path / "solotest.json", dsol({**given, (video(9), 0, 0): [(1, BOX)]}))
    table = index(tmp_path, solo, frames_per_second=8.0, boxes=(path,))
    rows = table.to_pylist()
    assert names(rows[0]) == [f"{number:06d}.jpg" for number in (1, 5, 9, 11, 17)]
    assert seconds(rows[0]) == [0.0, 0.5, 1.0, 1.25, 2.0]
    assert boxes(rows[0]["boxes"]) == [(1, 0, *CORNERS), (3, 1, *CORNERS), (3, 0, 0.0, 0.0, 1.0, 1.0)]
    assert (rows[1]["boxes"], names(rows[1])) == ([], ["000001.jpg", "000009.jpg", "000017.jpg"])
    assert rows[2]["boxes"] is None
    assert rows[3]["boxes"] is None
    assert notes(table) == [
        f"1 annotated frames are of clips that are not in the index: left out; the first: {frame(video(9), 0, 0)}",
        f"1 annotated frames have no box; the first: {frame(video(2), 0, 0)}",
    ]


def test_a_box_on_a_regular_picture_does_not_repeat_it(tmp_path):
    solo = make(tmp_path, 3, cello=[1])
    path = write_json(tmp_path / "solotest.json", dsol({(video(1), 1, 30): [(1, BOX)]}))
    (row,) = index(tmp_path, solo, boxes=(path,)).to_pylist()
    assert (seconds(row), boxes(row["boxes"])) == ([0.0, 1.0, 2.0], [(1, 0, *CORNERS)])


def test_of_moments_with_the_same_nearest_frame_the_nearest_one_counts(tmp_path):
    solo = make(tmp_path, 3, cello=[1])
    given = {(video(1), 0, 23): [(1, [0, 0, 1, 1])], (video(1), 1, 31): [(1, BOX)], (video(1), 1, 37): [(8, BOX)]}
    path = write_json(tmp_path / "solotest.json", dsol(given))
    table = index(tmp_path, solo, boxes=(path,))
    assert boxes(table["boxes"].to_pylist()[0]) == [(1, 0, *CORNERS)]
    assert notes(table) == [
        "2 annotated frames share their nearest frame with a nearer one: left out; the first: " + frame(video(1), 1, 31)
    ]


def test_moments_without_a_frame_near_and_of_other_frame_rates_are_left_out_and_counted(tmp_path):
    solo = make(tmp_path, 3, cello=[1, 2])
    given = {
        (video(1), 2, 89): [(1, BOX)],
        (video(1), 3, 91): [(1, BOX)],
        (video(1), 60, 1800): [(1, BOX)],
        (video(2), 1, 25): [(1, BOX)],
    }
    table = index(tmp_path, solo, boxes=(write_json(tmp_path / "solotest.json", dsol(given)),))
    first, second = table["boxes"].to_pylist()
    assert (boxes(first), second) == ([(2, 0, *CORNERS)], None)
    assert notes(table) == [
        f"1 annotated frames are of videos with other than 30 a second: left out; the first: {frame(video(2), 1, 25)}",
        f"2 annotated frames have no frame of the clip near them: left out; the first: {frame(video(1), 3, 91)}",
    ]


def test_boxes_are_cut_at_every_edge_and_those_without_area_in_the_picture_left_out(tmp_path):
    solo = make(tmp_path, 9, cello=[1, 2])
    places = [
        [0.5, 0.5, 0.5009, 0.5],  # rounding, of which nothing is said
        [-0.25, -0.5, 0.5, 0.75],
        [0.5, 0.5, 0.75, 0.25],
        [0.5, 0.5, 0.25, 0.502],
        [0.5, 0.5, 0, 0.25],
        [0.5, 0.5, 0.25, -0.25],
        [math.nan, 0.5, 0.25, 0.25],
        [1.25, 0.5, 0.25, 0.25],
    ]
    given = {(video(1), second, 30 * second): [(1, place)] for second, place in enumerate(places)}
    given[video(2), 0, 0] = [(1, [-0.5, 0, 0.25, 1])]
    table = index(tmp_path, solo, boxes=(write_json(tmp_path / "solotest.json", dsol(given)),))
    first, second = table["boxes"].to_pylist()
    assert boxes(first) == [
        (0, 0, 0.5, 0.5, 1.0, 1.0),
        (1, 0, 0.0, 0.0, 0.25, 0.25),
        (2, 0, 0.5, 0.5, 1.0, 0.75),
        (3, 0, 0.5, 0.5, 0.75, 1.0),
    ]
    assert second == []  # somebody looked, and nothing is left
    assert notes(table) == [
        f"5 boxes have no area in the picture: left out; the first: {frame(video(1), 4, 120)}",
        f"3 boxes reach over the edge of the picture: cut there; the first: {frame(video(1), 1, 30)}",
    ]


def test_annotated_pictures_are_taken_from_their_own_folder_if_it_is_given(tmp_path):
    solo = make(tmp_path, 3, cello=[1, 2])
    given = {(video(1), 1, 45): [(1, BOX)], (video(1), 0, 7): [(1, BOX)], (video(2), 0, 7): [(1, BOX)]}
    content = dsol({**given, (video(1), 0, 14): []})
    boxed = tmp_path / "video_frames"
    for path in list(content)[:2]:
        (boxed / path).parent.mkdir(parents=True)
        (boxed / path).touch()
    given_boxes = (write_json(tmp_path / "solotest.json", content),)
    table = index(tmp_path, solo, boxes=given_boxes, box_frames=str(boxed))
    first, second = table.to_pylist()
    assert seconds(first) == [0.0, 7 / 30, 1.0, 1.5, 2.0]
    assert first["pictures"][1]["path"] == str(boxed / f"{video(1)}_0_1000" / "frame_000" / "00007.jpg")
    assert first["pictures"][3]["path"] == str(boxed / f"{video(1)}_0_1000" / "frame_001" / "00045.jpg")
    assert boxes(first["boxes"]) == [(1, 0, *CORNERS), (3, 0, *CORNERS)]
    assert (seconds(second), second["boxes"]) == ([0.0, 1.0, 2.0], None)
    assert notes(table) == [
        f"1 annotated frames have no box; the first: {frame(video(1), 0, 14)}",
        f"1 annotated pictures are missing: left out; the first: {frame(video(2), 0, 7)}",
    ]
    with pytest.raises(UsageError, match=r"elsewhere holds none of the 3 annotated pictures, as .*00045.jpg"):
        index(tmp_path, solo, boxes=given_boxes, box_frames=str(tmp_path / "elsewhere"))


def test_avgns_boxes_are_width_and_height_too_and_lie_flat_in_their_folder(tmp_path):
    solo = make(tmp_path, 3, cello=[1])
    duet = make(tmp_path, 3, flute__trumpet=[2])
    solo_boxes = [{"file": f"{video(1)}_001_00037", "class": "cello", "bbox": BOX}]
    duet_boxes = [
        {
            "file": f"{video(2)}_002_00067",
            "class_src1": "trumpet",
            "bbox_src1": BOX,
            "class_src2": "flute",
            "bbox_src2": [0.5, 0.5, 0.5, 0.5],
        }
    ]
    given = (write_json(tmp_path / "music_solo.json", solo_boxes), write_json(tmp_path / "music_duet.json", duet_boxes))
    first, second = index(tmp_path, solo, duet, boxes=given).to_pylist()
    assert boxes(first["boxes"]) == [(1, 0, *CORNERS)]
    assert boxes(second["boxes"]) == [(2, 2, *CORNERS), (2, 1, 0.5, 0.5, 1.0, 1.0)]
    boxed = tmp_path / "boxed"
    boxed.mkdir()
    for name in (f"{video(1)}_001_00037.jpg", f"{video(2)}_002_00067.jpg"):
        (boxed / name).touch()
    first, second = index(tmp_path, solo, duet, boxes=given, box_frames=str(boxed)).to_pylist()
    assert first["pictures"][2] == {"path": str(boxed / f"{video(1)}_001_00037.jpg"), "seconds": 37 / 30}
    assert boxes(first["boxes"]) == [(2, 0, *CORNERS)]
    assert boxes(second["boxes"])[0] == (3, 2, *CORNERS)


def test_a_frame_that_two_files_annotate_has_its_boxes_once(tmp_path):
    solo = make(tmp_path, 3, cello=[1])
    first = write_json(tmp_path / "solotest.json", dsol({(video(1), 1, 37): [(1, BOX)]}))
    again = [{"file": f"{video(1)}_001_00037", "class": "cello", "bbox": BOX}]
    table = index(tmp_path, solo, boxes=(first, write_json(tmp_path / "music_solo.json", again)))
    assert boxes(table["boxes"].to_pylist()[0]) == [(1, 0, *CORNERS)]
    assert notes(table) == [
        f"1 annotated frames occur again: the first time counts; the first: {video(1)}_001_00037.jpg"
    ]


def test_a_detectors_boxes_are_of_any_instrument_of_the_lists(tmp_path):
    solo = make(tmp_path, 3, erhu=[1], tuba=[2])
    found = [{"file": f"{video(n)}_000_00000", "class": label, "bbox": BOX} for n, label in ((1, "erhu"), (2, "tuba"))]
    rows = index(tmp_path, solo, boxes=(write_json(tmp_path / "found.json", found),)).to_pylist()
    assert [boxes(row["boxes"]) for row in rows] == [[(0, 0, *CORNERS)], [(0, 1, *CORNERS)]]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (dsol({(video(1), 0, 0): [(2, BOX)]}), r"00000.jpg: category 2. Expected one of .*1: 'cello'"),
        ([{"file": f"{video(1)}_000_00000", "class": "piano", "bbox": BOX}], "category 'piano'"),
        (dsol({(video(1), 0, 0): [(1, BOX[:3])]}), "is something else"),
        (dsol({(video(1), 0, 0): [(1, (10**400, *BOX[1:]))]}), "is something else"),
        ({f"{video(1)}.jpg": {"bbox": []}}, "is named otherwise"),
        ({"version": 1.0, "videos": {}}, "is something else"),
        ([{"file": f"{video(1)}_000_00000", "bbox": [BOX]}], "is something else"),
        ("text", "is something else"),
    ],
)
def test_boxes_of_unknown_categories_and_other_files_are_refused(tmp_path, content, told):
    solo = make(tmp_path, cello=[1])
    with pytest.raises(UsageError, match=told) as caught:
        index(tmp_path, solo, boxes=(write_json(tmp_path / "boxes.json", content),))
    assert "boxes.json" in str(caught.value)
