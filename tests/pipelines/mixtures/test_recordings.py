"""Test mixtures say of which recordings they are, from the manifest to the batch."""

from dataclasses import replace

import pyarrow as pa
import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from pipelines.mixtures.batches import read_mixtures, to_batch
from pipelines.mixtures.render import render
from pipelines.plans.evaluation import make_test_list, with_recordings
from pipelines.plans.frozen_list import write_test_list
from pipelines.plans.plan import plan_epoch
from pipelines.plans.pool import usable_clips
from pipelines.shards.manifest import Manifest
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_duets import WHOLE, make_toy_duets
from tests.made.corpora.toy_shards import RATE, make_toy_shards

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, num_sources=3, min_sources=2)
DRAWN = Evaluation(num_mixtures=12)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    """Each two clips, by their numbers, are of one video."""
    made = make_toy_shards(tmp_path_factory.mktemp("toy"))
    videos = pa.array([video_of(name) for name in made.table["clip_id"].to_pylist()])
    place = made.table.column_names.index("recording")
    return replace(made, table=made.table.set_column(place, "recording", videos))


def video_of(clip_id: str) -> str:
    return f"video {int(clip_id.removeprefix('clip')) // 2}"


def test_each_source_has_the_recording_of_its_clip(manifest):
    rows = make_test_list(manifest, MIXING, DRAWN)
    batch = read_mixtures(rows, ClipSource.of(manifest), MIXING)
    expected = [[video_of(name) for name in names] for names in rows["clip_id"].to_pylist()]
    assert {len(names) for names in expected} == {2, 3}
    assert batch.recordings == tuple(tuple(names + [""] * (3 - len(names))) for names in expected)
    assert batch.recordings is not None
    part = batch.rows(4, 6)
    assert (part.mixture_ids, part.recordings) == (batch.mixture_ids[4:6], batch.recordings[4:6])


def test_a_frozen_list_gets_them_from_the_manifest(manifest, tmp_path):
    rows = make_test_list(manifest, MIXING, DRAWN)
    location = str(tmp_path / "list.parquet")
    write_test_list(location, rows, usable_clips(manifest, DRAWN.test_mixing(MIXING), DRAWN.split))
    assert make_test_list(manifest, MIXING, replace(DRAWN, test_list=location)).equals(rows)


def test_all_sources_of_a_whole_clip_are_of_its_recording(tmp_path):
    manifest = make_toy_duets(tmp_path)
    rows = make_test_list(manifest, replace(WHOLE, min_sources=1), Evaluation(num_mixtures=None))
    batch = read_mixtures(rows, ClipSource.of(manifest), replace(WHOLE, min_sources=1))
    names = [names[0] for names in rows["clip_id"].to_pylist()]
    assert names == ["duet0", "duet1", "solo0", "solo1"]
    assert batch.recordings == (("duet0",) * 2, ("duet1",) * 2, ("solo0", ""), ("solo1", ""))


def test_a_mixture_that_is_dropped_takes_its_recordings_along(manifest):
    columns = render(make_test_list(manifest, MIXING, DRAWN), ClipSource.of(manifest), MIXING)
    whole = to_batch(columns)
    columns["problem"] = columns["problem"].astype(object)
    columns["problem"][1] = "gone"
    assert whole.recordings is not None
    assert to_batch(columns).recordings == (whole.recordings[0], *whole.recordings[2:])


def test_training_mixtures_have_none(manifest):
    plan = plan_epoch(usable_clips(manifest, MIXING, "train"), seed=0, epoch=0).slice(0, 4)
    assert read_mixtures(plan, ClipSource.of(manifest), MIXING).recordings is None
    told = read_mixtures(with_recordings(plan, manifest), ClipSource.of(manifest), MIXING)
    assert told.recordings is not None
    assert {name for names in told.recordings for name in names if name} <= set(manifest.table["recording"].to_pylist())
