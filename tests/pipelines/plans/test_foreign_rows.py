"""Rows of a plan out of a file are believed where the manifest agrees, and lead nowhere else."""

import pyarrow as pa
import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.plans.evaluation import with_recordings
from pipelines.plans.foreign_rows import require_of
from pipelines.plans.plan import plan_test
from pipelines.plans.pool import usable_clips
from tests.made.corpora.toy_shards import RATE, make_toy_shards


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    manifest = make_toy_shards(tmp_path_factory.mktemp("toy"), num_shards=1, with_pictures=True)
    mixing = Mixing(sample_rate_hz=RATE, segment_samples=2000, pictures_per_source=1, picture_side=8)
    plan = plan_test(usable_clips(manifest, mixing, "test"), Evaluation(num_mixtures=3))
    return manifest, with_recordings(plan, manifest)


def test_rows_of_the_manifest_are_believed(planned):
    manifest, rows = planned
    require_of(manifest, rows, "a list")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mixture_id", "../../.bashrc"),
        ("recording", ["another's", "clip011"]),
        ("shard", ["../../etc/passwd", "../../etc/passwd"]),
        ("audio_offset", [0, 0]),
        ("audio_bytes", [1 << 40, 1 << 40]),
        ("num_samples", [5, 5]),
        ("start", [-1, 0]),
        ("start", [10**9, 0]),
        ("frame_sizes", [[2**31 - 1], [1]]),
        ("mask_bytes", [1, 1]),
        ("clip_id", ["no such clip", "clip011"]),
        ("clip_id", [None, "clip011"]),
    ],
)
def test_rows_that_name_other_bytes_are_refused(planned, name, value):
    manifest, rows = planned
    column = rows[name].to_pylist()
    changed = pa.array([value, *column[1:]], rows[name].type)
    with pytest.raises(UsageError, match=r"a list (names other bytes|has no rows)"):
        require_of(manifest, rows.set_column(rows.column_names.index(name), name, changed), "a list")
