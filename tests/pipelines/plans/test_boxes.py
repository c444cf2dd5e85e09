"""Plans carry the boxes of the pictures that they show, and no others, and change their classes as columns."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import NO_CLASS
from pipelines.datasets.index import BOX
from pipelines.plans.boxes import NO_SOURCE, boxes_of_pictures, in_class_ids
from pipelines.plans.plan import plan_test
from pipelines.plans.pool import usable_clips
from pipelines.plans.rows import with_class_ids
from tests.made.corpora.toy_duets import make_toy_duets
from tests.made.corpora.toy_shards import RATE

SINGLE = Mixing(num_sources=1, sample_rate_hz=RATE, segment_samples=3000, pictures_per_source=1, picture_side=20)
ANNOTATED = Evaluation(num_mixtures=None, crop="annotated")


def box(picture: int, class_id: int | None = 0, x0: float = 0.0) -> dict:
    return {"picture": picture, "class_id": class_id, "x0": x0, "y0": 0.0, "x1": 1.0, "y1": 1.0}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_duets(tmp_path_factory.mktemp("duets"))


def test_a_row_has_the_boxes_of_its_picture_only(manifest):
    plan = plan_test(usable_clips(manifest, SINGLE, "test"), ANNOTATED)
    shown = [[found["picture"] for found in row[0]] for row in plan["boxes"].to_pylist()]
    assert plan["picture"].to_pylist() == [[[0]], [[3]]]
    assert shown == [[0], [3, 3]]


def test_a_video_of_many_annotated_pictures_gives_a_plan_of_as_many_boxes(manifest):
    (solo,) = (row for row in manifest.table.to_pylist() if row["clip_id"] == "solo0")
    count = 300
    frames = {name: [solo[name][0]] * count for name in ("frame_offsets", "frame_sizes", "frame_checks")}
    seconds = {"frame_seconds": [8 * number / count for number in range(count)]}
    video = {**solo, **frames, **seconds, "boxes": [box(number) for number in range(count)]}
    table = pa.Table.from_pylist([video], schema=manifest.table.schema)
    plan = plan_test(usable_clips(replace(manifest, table=table), SINGLE, "test"), ANNOTATED)
    assert len(plan) == count
    assert len(plan["boxes"].combine_chunks().flatten().flatten()) == count
    assert plan.nbytes < 500 * count


def test_boxes_are_found_by_clip_and_picture_in_any_order_and_what_nobody_said_is_null():
    clips = [[box(2, x0=0.5), box(0), box(2)], None, [], [box(1)]]
    boxes = pa.array(clips, pa.list_(BOX))
    chosen, pictures = np.array([3, 0, 0, 0, 1, 2, 3]), np.array([1, 2, 1, 0, 0, 7, 2])
    found = boxes_of_pictures(boxes, chosen, pictures).to_pylist()
    assert found == [[box(1)], [box(2, x0=0.5), box(2)], None, [box(0)], None, [], None]
    assert boxes_of_pictures(pa.array([None], pa.list_(BOX)), np.array([0]), np.array([0])).to_pylist() == [None]


def test_classes_of_boxes_change_and_all_else_stays():
    column = pa.chunked_array([pa.array([[[box(0, 1, 0.25), box(0, None)], None], [[]], [[box(4, 0)]]])])
    column = column.cast(pa.list_(pa.list_(BOX)))
    for given in (column, column.slice(1)):
        changed = in_class_ids(given, np.array([NO_CLASS, 7]))
        expected = given.to_pylist()
        for found in (found for row in expected for clip in row for found in clip or ()):
            found["class_id"] = {0: NO_SOURCE, 1: 7, None: None}[found["class_id"]]
        assert changed.to_pylist() == expected
        assert changed.type == column.type


def test_a_plan_in_its_own_class_ids_is_left_as_it_is(manifest):
    plan = plan_test(usable_clips(manifest, SINGLE, "test"), ANNOTATED)
    assert with_class_ids(plan, np.arange(5), 5) is plan
