"""Shards of the miniature corpus, of which a test looks at how they are written, and indexes without media."""

import hashlib
from pathlib import Path

import pyarrow as pa

from pipelines.datasets.index import IndexRow, make_index
from pipelines.shards.dataset import finish
from pipelines.shards.plan import ShardSettings, plan_shards
from pipelines.shards.write import write_shard

CLIP_MB = 0.225416
"""What a clip of 10 s is taken to need under these settings: its sound is 0.2205 of it."""
SETTINGS = ShardSettings(
    dataset="miniature", shard_mb=6 * CLIP_MB, num_frames=2, picture_short_side=32, max_bad_share=1.0
)


def write_all(index, settings, folder):
    """Write the shards of an index in this process, one after another; returns their manifest."""
    plan = plan_shards(index, settings)
    for row in plan.to_pylist():
        write_shard(row, settings, str(folder))
    return finish(plan, settings, str(folder))


def contents(folder):
    """The SHA-256 of each file of a folder, by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


def synthetic_index(num_clips, **changes):
    """An index without media: for what is decided before any file is opened. A change is a list, a value a clip."""
    rows = [
        IndexRow(
            clip_id=f"clip{number:05d}",
            **{
                "recording": f"video{number}",
                "media_path": f"/nowhere/{number}",
                "labels": ("thunder",),
                "split": "train",
                "nominal_seconds": 10.0,
            }
            | {name: values[number] for name, values in changes.items()},
        )
        for number in range(num_clips)
    ]
    return make_index(rows, ["thunder"])


def with_problem(index, gone):
    """An index that was made when the file of a clip was not there."""
    problems = ["missing file" if clip_id == gone else None for clip_id in index["clip_id"].to_pylist()]
    merged = [new or old for new, old in zip(problems, index["problem"].to_pylist(), strict=True)]
    column = index.schema.get_field_index("problem")
    return index.set_column(column, index.schema.field(column), pa.array(merged, pa.string()))
