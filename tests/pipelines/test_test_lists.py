"""A frozen test list gives the mixtures that were frozen, or is refused."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cocktail.config import Evaluation, Mixing
from cocktail.types import UsageError
from pipelines.clip_pool import usable_clips
from pipelines.plans import plan_hash, plan_test
from pipelines.test_lists import read_test_list, write_test_list
from tests.toy_shards import RATE, make_toy_shards

MIXING = Mixing(
    sample_rate_hz=RATE, segment_samples=2000, num_sources=3, min_sources=2, pictures_per_source=2, picture_side=8
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"), with_pictures=True)


@pytest.fixture
def frozen(manifest, tmp_path):
    pool = usable_clips(manifest, MIXING, "test")
    plan = plan_test(pool, Evaluation(num_mixtures=20, crop="random"))
    location = str(tmp_path / "list.parquet")
    return pool, plan, location, write_test_list(location, plan, pool)


def test_what_is_read_is_what_was_frozen(frozen):
    pool, plan, location, told = frozen
    assert read_test_list(location, pool).equals(plan)
    assert told == plan_hash(plan)


def test_where_the_clips_lie_does_not_matter(frozen, tmp_path):
    _, plan, location, _ = frozen
    # Another folder of the same shards: the list holds no paths.
    copy = make_toy_shards(tmp_path / "copy", with_pictures=True)
    assert read_test_list(location, usable_clips(copy, MIXING, "test"))["mixture_id"] == plan["mixture_id"]


def test_other_data_and_other_settings_are_refused(frozen, tmp_path):
    pool, _, location, _ = frozen
    other = make_toy_shards(tmp_path / "other", num_test=9, with_pictures=True)
    with pytest.raises(UsageError, match="lists mixtures of toy with root hash"):
        read_test_list(location, usable_clips(other, MIXING, "test"))
    longer = usable_clips(pool.manifest, replace(MIXING, segment_samples=3000), "test")
    with pytest.raises(UsageError, match=r"was frozen with mixing\.segment_samples 2000 \(here 3000\)"):
        read_test_list(location, longer)


def test_a_changed_or_absent_list_is_refused(frozen, tmp_path):
    pool, _, location, _ = frozen
    table = pq.read_table(location)
    for changed in (table.slice(1), table.set_column(2, "start", table["start"].take(list(range(19, -1, -1))))):
        pq.write_table(changed, location)
        with pytest.raises(UsageError, match=r"is damaged: its mixtures are not those|lists a source without"):
            read_test_list(location, pool)
    Path(location).write_bytes(b"PAR1 and so on")
    with pytest.raises(UsageError, match="is not a test list"):
        read_test_list(location, pool)
    with pytest.raises(UsageError, match=r"no test list at .*: make one with jobs/freeze_test_list"):
        read_test_list(str(tmp_path / "absent.parquet"), pool)
