"""A frozen test list gives the mixtures that were frozen, or is refused."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.plans.frozen_list import read_test_list, split_of, write_test_list
from pipelines.plans.plan import plan_test
from pipelines.plans.pool import usable_clips
from pipelines.plans.rows import plan_hash
from pipelines.shards.signed_json import digest
from tests.made.corpora.toy_shards import RATE, make_toy_shards

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
        with pytest.raises(UsageError, match="is damaged: its mixtures are not those"):
            read_test_list(location, pool)
    Path(location).write_bytes(b"PAR1 and so on")
    with pytest.raises(UsageError, match="is damaged"):
        read_test_list(location, pool)
    Path(location).write_bytes(b"a text")
    with pytest.raises(UsageError, match="is not a test list"):
        read_test_list(location, pool)
    with pytest.raises(UsageError, match=r"no test list at .*: make one with jobs/freeze_test_list"):
        read_test_list(str(tmp_path / "absent.parquet"), pool)


def test_any_flipped_bit_is_refused_or_changes_nothing(frozen):
    pool, plan, location, _ = frozen
    whole = Path(location).read_bytes()
    generator = random.Random(0)
    for _ in range(150):
        data = bytearray(whole)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        Path(location).write_bytes(data)
        try:
            read = read_test_list(location, pool)
        except UsageError:
            continue
        assert read.equals(plan)


def test_a_list_is_for_good(frozen):
    pool, plan, location, _ = frozen
    with pytest.raises(UsageError, match="is there already, and is not overwritten"):
        write_test_list(location, plan, pool)


def test_a_list_knows_its_split_and_says_which_settings_leave_its_clips_out(frozen):
    pool, _, location, _ = frozen
    assert split_of(location) == "test"
    with pytest.raises(UsageError, match="of the split test, not of train"):
        read_test_list(location, usable_clips(pool.manifest, MIXING, "train"))
    rms = sorted(max(levels) for levels in pool.manifest.table["rms"].to_pylist()[:6])
    louder = replace(MIXING, silence_dbfs=20 * math.log10((rms[1] + rms[2]) / 2))
    with pytest.raises(UsageError, match=r"clips that cannot be used here, as clip.*left out 2 silent"):
        read_test_list(location, usable_clips(pool.manifest, louder, "test"))


def forged(location: str, table: pa.Table, target: Path, **metadata: str) -> str:
    """A list of other rows, or of other settings, signed as if it were in order."""
    kept = {name.decode(): value.decode() for name, value in pq.read_schema(location).metadata.items()}
    said = metadata if "content" in metadata else {**metadata, "content": digest(table.to_pylist())}
    kept |= {f"cocktail.{name}": value for name, value in said.items()}
    pq.write_table(table.replace_schema_metadata(kept), target)
    return str(target)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("start", [-1, 0], "begin outside"),
        ("start", [10**12, 0], "begin outside"),
        ("start", [0], "another number of starts"),
        ("gain", [float("nan"), 1.0], "gains that are no numbers"),
        ("picture", [[0, 9], [0, 0]], "pictures that its clips do not have"),
        ("picture", [[0], [0, 0]], "do not have 2 pictures each"),
        ("picture", [None, [0, 0]], "without picture"),
        ("clip_id", [None, "clip040"], "without clip_id"),
        ("clip_id", ["no clip", "clip040"], "cannot be used here"),
    ],
)
def test_rows_that_no_job_freezes_are_refused(frozen, tmp_path, name, value, said):
    pool, _, location, _ = frozen
    table = pq.read_table(location).slice(0, 1)
    two = {"clip_id": ["clip040", "clip041"], "start": [0, 0], "gain": [1.0, 1.0], "picture": [[0, 0]] * 2}
    row = {"mixture_id": "0" * 16, **two, name: value}
    lists = table.schema.get_field_index("picture"), pa.field("picture", pa.list_(pa.list_(pa.int64())))
    table = pa.Table.from_pylist([row], table.schema.set(*lists).remove_metadata())
    with pytest.raises(UsageError, match=said):
        read_test_list(forged(location, table, tmp_path / "forged.parquet"), pool)


def test_columns_and_settings_that_no_job_freezes_are_refused(frozen, tmp_path):
    pool, _, location, _ = frozen
    table = pq.read_table(location)
    target = tmp_path / "forged.parquet"
    with pytest.raises(UsageError, match="has no settings"):
        read_test_list(forged(location, table, target, mixing="[]"), pool)
    with pytest.raises(UsageError, match="'start' of another type"):
        read_test_list(forged(location, table.set_column(2, "start", table["gain"]), target), pool)
    for name, values in (("start", [b"0"]), ("notes", [0])):
        strange = table.drop_columns(["start"]).append_column(name, pa.array(values * len(table)))
        with pytest.raises(UsageError, match=f"'{name}' of another type"):
            read_test_list(forged(location, strange, target, content="0"), pool)
    with pytest.raises(UsageError, match="has no column gain"):
        read_test_list(forged(location, table.drop_columns(["gain"]), target), pool)
    wide = table.set_column(1, "clip_id", pa.array([["clip040"] * 9] * len(table)))
    for place, name, item in ((2, "start", 0), (3, "gain", 1.0), (4, "picture", [0, 0])):
        wide = wide.set_column(place, name, pa.array([[item] * 9] * len(table), table[name].type))
    with pytest.raises(UsageError, match="mixtures of 9 to 9 clips"):
        read_test_list(forged(location, wide, target), pool)
