"""The index of VGG-SS holds every item with its boxes as they are to be scored, and tells what is odd about which."""

import csv
import json
import os

import pytest

from cocktail.types import UsageError
from jobs.shard_vggss import ShardVGGSS
from pipelines.datasets.vggsound import index_vggsound, vggss_classes
from pipelines.datasets.vggss import index_vggss, with_boxes
from pipelines.shards.plan import ShardSettings, plan_shards, planned_clip_ids

HUGE = -2.8823037615171176e16
WHOLE = [0.25, 0.5, 0.75, 1.0]
ITEMS = [
    ("aaaaaaaaaaa_000030", "police car (siren)", [WHOLE]),
    ("-bbbbbbbbb__000001", "electric shaver, electric razor shaving", [WHOLE, [0, 0, 1, 0.125]]),
    ("ccccccccccc_410000", "airplane flyby", [WHOLE]),
    ("ddddddddddd_000007", "airplane flyby", [WHOLE]),
]
NAMES = ["police_car_(siren)", "electric_shaver_electric_razor_shaving", "airplane_flyby", "airplane_flyby"]
A, B, C, D = (item[0] for item in ITEMS)


def write_csv(folder, name, rows):
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(folder / name)


def make(folder, items=ITEMS, names=None):
    """vggss.json and a folder of empty files: the index opens none."""
    (folder / "videos").mkdir()
    for name in [f"{item[0]}.mp4" for item in items] if names is None else names:
        (folder / "videos" / name).touch()
    written = [dict(zip(("file", "class", "bbox"), item, strict=True)) for item in items]
    (folder / "vggss.json").write_text(json.dumps(written))
    return str(folder / "vggss.json"), str(folder / "videos")


def notes(index):
    return json.loads(index.schema.metadata[b"cocktail.notes"])


def corners(index):
    return [
        None if boxes is None else [[box[name] for name in ("x0", "y0", "x1", "y1")] for box in boxes]
        for boxes in index["boxes"].to_pylist()
    ]


def test_items_come_in_order_as_test_clips_with_their_boxes_on_the_only_picture(tmp_path):
    vggss, videos = make(tmp_path)
    index = index_vggss(vggss, videos)
    classes = ["airplane flyby", "electric shaver, electric razor shaving", "police car (siren)"]
    assert json.loads(index.schema.metadata[b"cocktail.classes"]) == classes == vggss_classes(vggss)
    assert index["clip_id"].to_pylist() == [A, B, C, D]
    assert index["labels"].to_pylist() == [[item[1]] for item in ITEMS]
    assert index["class_ids"].to_pylist() == [[2], [1], [0], [0]]
    assert index["media_path"].to_pylist() == [f"{videos}/{item[0]}.mp4" for item in ITEMS]
    assert index["nominal_seconds"].to_pylist() == [10.0] * 4
    assert set(index["split"].to_pylist()) == {"test"}
    assert corners(index) == [[WHOLE], [WHOLE, [0.0, 0.0, 1.0, 0.125]], [WHOLE], [WHOLE]]
    boxes = [box for boxes in index["boxes"].to_pylist() for box in boxes]
    assert [(box["picture"], box["class_id"]) for box in boxes] == [(0, 2), (0, 1), (0, 1), (0, 0), (0, 0)]
    for column in ("pictures", "partner", "mask_path", "group", "role", "problem"):
        assert index[column].to_pylist() == [None] * 4, column
    assert notes(index) == []


def test_boxes_are_cut_at_the_picture_and_those_without_an_area_are_left_out_and_counted(tmp_path):
    boxes = [
        [[-0.5, -0.25, 1.5, 2]],  # more than all
        [[0.5, 0.5, HUGE, HUGE], WHOLE],  # as one of the release
        [[HUGE, 0.25, 0.5, 1e300], [0.25, 1.0, 0.75, 1.0], [0.5, 0, 0.25, 1]],
        [[0.25, 1.5, 0.75, 2.0]],  # has an area, but outside
        [[0.0625, 0.25, 0.0625, 0.75]],
        [],
        [[0, 0, 1, 1]],
    ]
    items = [(f"item{number}_000000", "airplane", item) for number, item in enumerate(boxes)]
    index = index_vggss(*make(tmp_path, items))
    whole_picture = [0.0, 0.0, 1.0, 1.0]
    assert corners(index) == [[whole_picture], [WHOLE], [[0.0, 0.25, 0.5, 1.0]], [], [], [], [whole_picture]]
    assert index["problem"].to_pylist() == [None, None, None, *["empty truth"] * 3, None]
    assert notes(index) == [
        "2 boxes reach over the edge of the picture and are cut there; the first: item0_000000",
        "5 boxes have no area inside the picture and are left out; the first: item1_000000",
        "3 items have no box and are set aside; the first: item3_000000",
    ]


@pytest.mark.parametrize(
    "box",
    [[0, 0, 1], [0, 0, 1, 1, 1], [0, 0, 1, float("nan")], [float("-inf"), 0, 1, 1], ["0", 0, 1, 1], 0.5, [True] * 4],
)
def test_a_box_of_anything_but_four_finite_numbers_is_refused_with_its_item(tmp_path, box):
    vggss, videos = make(tmp_path, [*ITEMS[:2], (C, "airplane flyby", [WHOLE, box])])
    with pytest.raises(UsageError, match=rf"vggss.json, item 2, {C}: box .*Expected four finite numbers"):
        index_vggss(vggss, videos)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "vggss.json is empty"),
        ("{}", "vggss.json holds no list"),
        ("[1]", "item 0 is 1. Expected the released vggss.json"),
        ('[{"file": "a_000001", "class": "b"}]', "item 0 is .*Expected the released vggss.json"),
        ('[{"file": "a", "class": "b", "bbox": []}]', "item 0: file 'a'. Expected <id>_<start, six digits>"),
        ('[{"file": "../a_000001", "class": "b", "bbox": []}]', "item 0: file '../a_000001'"),
        ('[{"file": 7, "class": "b", "bbox": []}]', "item 0: file 7"),
        ('[{"file": "a_000001", "class": null, "bbox": []}]', "item 0, a_000001: class None"),
        ('[{"file": "a_000001", "class": "", "bbox": []}]', "item 0, a_000001: class ''"),
        ('[{"file": "a_000001", "class": "b", "bbox": null}]', "item 0, a_000001: bbox None"),
        ("[", "vggss.json is no JSON"),
    ],
)
def test_a_file_that_is_another_is_refused_with_the_place(tmp_path, text, told):
    vggss, videos = make(tmp_path)
    (tmp_path / "vggss.json").write_text(text)
    with pytest.raises(UsageError, match=told):
        index_vggss(vggss, videos)


def test_what_is_wrong_with_an_item_is_known_without_opening_a_file(tmp_path):
    vggss, videos = make(tmp_path, [*ITEMS, ITEMS[0]], [f"{A}.mp4", f"{C}.mp4"])
    (tmp_path / "videos" / os.fsdecode(B.encode() + b"_caf\xe9.mp4")).touch()
    assert index_vggss(vggss, videos)["problem"].to_pylist() == [
        None,
        "undecodable file name",
        None,
        "missing file",
        "duplicate row",
    ]


def test_folders_without_a_clip_are_refused(tmp_path):
    vggss, _ = make(tmp_path)
    with pytest.raises(UsageError, match=r"cannot list .*none"):
        index_vggss(vggss, f"{tmp_path}/none")
    with pytest.raises(UsageError, match="none of the 4 clips"):
        index_vggss(vggss, str(tmp_path))


def test_boxes_are_joined_to_an_index_of_vggsound_and_change_nothing_else_of_it(tmp_path):
    items = [ITEMS[1], (C, "airplane flyby", [[0.5, 0.5, HUGE, HUGE]])]
    vggss, videos = make(tmp_path, items, names=[f"{item[0]}.mp4" for item in ITEMS])
    listed = [(A, "train"), (B, "test"), (C, "test"), (D, "train")]
    labels = {item[0]: item[1] for item in ITEMS}
    rows = [(clip[:11], int(clip[12:]), labels[clip], split) for clip, split in listed]
    index = index_vggsound(write_csv(tmp_path, "vggsound.csv", rows), videos)
    marked = with_boxes(index, vggss)
    assert marked.schema.equals(index.schema)
    assert marked.drop_columns("boxes").equals(index.drop_columns("boxes"))
    assert marked.schema.metadata[b"cocktail.classes"] == index.schema.metadata[b"cocktail.classes"]
    assert corners(marked) == [None, [WHOLE, [0.0, 0.0, 1.0, 0.125]], [], None]
    assert {box["class_id"] for box in marked["boxes"].to_pylist()[1]} == {1}
    assert notes(marked) == [
        f"1 boxes have no area inside the picture and are left out; the first: {C}",
        f"1 items have no box and have an empty list; the first: {C}",
    ]
    # Boxes are no part of who shares a shard with whom, and so of no mixture.
    before, after = (plan_shards(table, ShardSettings(dataset="x", shard_mb=0.4)) for table in (index, marked))
    assert len(after) == 4
    assert after["shard"] == before["shard"]
    assert planned_clip_ids(after) == planned_clip_ids(before)
    foreign = make_foreign(tmp_path)
    with pytest.raises(UsageError, match="has no item that is among the 4 clips of the csv"):
        with_boxes(index, foreign)


def make_foreign(folder):
    (folder / "foreign.json").write_text(json.dumps([{"file": "zzzzzzzzzzz_000001", "class": "x", "bbox": [WHOLE]}]))
    return str(folder / "foreign.json")


def test_items_that_are_no_test_clips_of_their_class_are_noted_and_stay(tmp_path):
    vggss, videos = make(tmp_path)
    rows = [
        ("aaaaaaaaaaa", 30, "police car (siren)", "test"),
        ("-bbbbbbbbb_", 1, "electric shaver, electric razor shaving", "train"),
        ("ccccccccccc", 410000, "airplane", "test"),
        ("ddddddddddd", 8, "airplane flyby", "test"),
    ]
    csv_path = write_csv(tmp_path, "vggsound.csv", rows)
    index = index_vggss(vggss, videos, csv=csv_path)
    assert len(index) == 4
    assert notes(index) == [
        f"1 items are not in vggsound.csv; the first: {D}",
        f"1 items are of another split in vggsound.csv: models may have been trained on them; the first: {B}, train",
        f"1 items have another class in vggsound.csv; the first: {C}, 'airplane' not 'airplane flyby'",
    ]
    rows[1:] = [(item[0][:11], int(item[0][12:]), item[1], "test") for item in ITEMS[1:]]
    assert notes(index_vggss(vggss, videos, csv=write_csv(tmp_path, "vggsound.csv", rows))) == []


def test_masks_lie_beside_and_items_without_one_are_counted(tmp_path):
    vggss, videos = make(tmp_path)
    (tmp_path / "masks").mkdir()
    for name in (f"{A}.png", f"{A}.pkl", f"{C}.pkl", f"{D}.jpg"):
        (tmp_path / "masks" / name).touch()
    masks = str(tmp_path / "masks")
    index = index_vggss(vggss, videos, masks=f"{masks}/")
    assert index["mask_path"].to_pylist() == [f"{masks}/{A}.png", None, f"{masks}/{C}.pkl", None]
    assert index["problem"].to_pylist() == [None] * 4
    assert notes(index) == [f"2 items have no mask in masks; the first: {B}"]


def test_a_list_of_single_sources_chooses_items_and_no_classes(tmp_path):
    vggss, videos = make(tmp_path)
    single = write_csv(tmp_path, "single.csv", [(D, NAMES[3]), (B, NAMES[1]), ("elsewhere_000000", "thunder")])
    index = index_vggss(vggss, videos, single=single)
    assert index["clip_id"].to_pylist() == [B, D]
    assert index["class_ids"].to_pylist() == [[1], [0]]
    assert len(json.loads(index.schema.metadata[b"cocktail.classes"])) == 3
    assert notes(index) == [
        "1 items of single.csv are not in this data set; the first: elsewhere_000000",
        f"2 items are not on single.csv and left out; the first: {A}",
    ]


def test_a_list_with_the_names_of_all_classes_as_they_are_listed_has_nothing_to_tell(tmp_path):
    vggss, videos = make(tmp_path)
    single = write_csv(tmp_path, "single.csv", [(item[0], name) for item, name in zip(ITEMS, NAMES, strict=True)])
    assert notes(index_vggss(vggss, videos, single=single)) == []


def test_a_class_that_a_list_names_otherwise_is_counted_and_named(tmp_path):
    vggss, videos = make(tmp_path)
    single = write_csv(tmp_path, "single.csv", [(A, NAMES[0]), (B, NAMES[1]), (C, "thunder"), (D, "airplane flyby")])
    index = index_vggss(vggss, videos, single=single)
    assert index["labels"].to_pylist()[2] == ["airplane flyby"]
    assert notes(index) == [f"2 items have another class in single.csv; the first: {C} as thunder, not airplane_flyby"]


def test_a_list_of_pairs_gives_partners_and_chooses_nothing(tmp_path):
    vggss, videos = make(tmp_path)
    pairs = [
        (A, NAMES[0], B, NAMES[1]),
        (B, NAMES[1], C, NAMES[2]),
        (C, NAMES[2], B, NAMES[1]),
        (D, NAMES[3], A, NAMES[0]),
    ]
    index = index_vggss(vggss, videos, duet=write_csv(tmp_path, "duet.csv", pairs))
    assert index["partner"].to_pylist() == [B, C, B, A]
    assert notes(index) == []


def test_what_is_odd_about_pairs_is_counted_and_the_pairs_stay(tmp_path):
    vggss, videos = make(tmp_path)
    pairs = [
        (C, NAMES[2], D, NAMES[3]),  # one class
        (A, NAMES[0], "elsewhere_000000", "thunder"),
        (B, NAMES[1], A, "thunder"),
        ("elsewhere_000000", "thunder", A, NAMES[0]),
    ]
    duet = write_csv(tmp_path, "duet.csv", pairs)
    index = index_vggss(vggss, videos, duet=duet)
    assert index["partner"].to_pylist() == ["elsewhere_000000", A, D, None]
    assert notes(index) == [
        "1 items of duet.csv are not in this data set; the first: elsewhere_000000",
        f"1 partners have another class in duet.csv; the first: {A} as thunder, not police_car_(siren)",
        f"1 partners in duet.csv are not in this data set; the first: elsewhere_000000 of {A}",
        f"1 items have no partner in duet.csv; the first: {D}",
        f"1 pairs of duet.csv are of one class: scores by class leave them out; the first: {C} and {D}",
    ]


def test_a_partner_that_the_list_of_single_sources_left_out_is_noted(tmp_path):
    vggss, videos = make(tmp_path)
    single = write_csv(tmp_path, "single.csv", [(A, NAMES[0])])
    duet = write_csv(tmp_path, "duet.csv", [(A, NAMES[0], B, NAMES[1])])
    assert f"1 partners in duet.csv are not in this data set; the first: {B} of {A}" in notes(
        index_vggss(vggss, videos, single=single, duet=duet)
    )


def test_the_same_files_at_another_place_are_told_of_with_the_same_words(tmp_path):
    indexes = []
    for place in (tmp_path / "here", tmp_path / "there"):
        place.mkdir()
        (place / "masks").mkdir()
        vggss, videos = make(place, [*ITEMS, ("eeeeeeeeeee_000000", "airplane flyby", [[0, 0, 0, 0]])])
        rows = [("aaaaaaaaaaa", 30, "thunder", "test"), ("-bbbbbbbbb_", 1, ITEMS[1][1], "train")]
        indexes.append(
            index_vggss(
                vggss,
                videos,
                csv=write_csv(place, "vggsound.csv", rows),
                masks=str(place / "masks"),
                single=write_csv(place, "single.csv", [(C, "thunder"), ("x", "y"), (B, NAMES[1]), (A, NAMES[0])]),
                duet=write_csv(place, "duet.csv", [(B, NAMES[1], A, "thunder"), ("x", "y", A, NAMES[0])]),
            )
        )
    here, there = indexes
    assert len(notes(here)) == 10
    assert here.schema.metadata == there.schema.metadata
    assert str(tmp_path) not in str(here.schema.metadata)
    assert here.drop_columns(["media_path"]).equals(there.drop_columns(["media_path"]))


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "list.csv is empty"),
        ([("elsewhere_000000", "thunder")], "names no item of this data set"),
        ([(A, "thunder"), (C, "thunder")], f"names no item .*: {A} as thunder, not police_car"),
        ([(A, NAMES[0]), (B,)], "line 2: 1 columns"),
        ([(A, NAMES[0]), (B, NAMES[1]), (A, "thunder")], f"line 3: {A} is listed before"),
    ],
)
def test_a_list_of_something_else_is_refused(tmp_path, rows, told):
    vggss, videos = make(tmp_path)
    with pytest.raises(UsageError, match=told):
        index_vggss(vggss, videos, single=write_csv(tmp_path, "list.csv", rows))
    pairs = [(*row, B, NAMES[1]) if len(row) == 2 else row for row in rows]
    with pytest.raises(UsageError, match=told):
        index_vggss(vggss, videos, duet=write_csv(tmp_path, "list.csv", pairs))


def test_a_line_that_is_there_twice_is_no_contradiction(tmp_path):
    vggss, videos = make(tmp_path)
    single = write_csv(tmp_path, "single.csv", [(A, NAMES[0])] * 2)
    assert index_vggss(vggss, videos, single=single)["clip_id"].to_pylist() == [A]


def test_the_job_stores_the_one_frame_that_the_boxes_are_of(tmp_path):
    vggss, videos = make(tmp_path)
    job = ShardVGGSS(vggss=vggss, videos=videos, shards="none")
    assert (job.settings.dataset, job.settings.num_frames) == ("vggss", 1)
    assert len(index_vggss(**job.sources())) == 4
    with pytest.raises(UsageError, match="--frames is 3: 4 clips have boxes or masks, of their middle frame: give 1"):
        plan_shards(index_vggss(vggss, videos), ShardSettings(dataset="vggss", num_frames=3))


def test_the_job_hands_on_every_option(tmp_path):
    vggss, videos = make(tmp_path)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / f"{A}.png").touch()
    job = ShardVGGSS(
        vggss=vggss,
        videos=videos,
        shards="none",
        csv=write_csv(tmp_path, "vggsound.csv", [("aaaaaaaaaaa", 30, "police car (siren)", "train")]),
        masks=str(tmp_path / "masks"),
        single=write_csv(tmp_path, "single.csv", [(A, NAMES[0])]),
        duet=write_csv(tmp_path, "duet.csv", [(A, NAMES[0], B, NAMES[1])]),
    )
    index = index_vggss(**job.sources())
    assert index["partner"].to_pylist() == [B]
    assert index["mask_path"].to_pylist() == [str(tmp_path / "masks" / f"{A}.png")]
    assert any("of another split" in note for note in notes(index))
