"""Memory while sharding does not grow with the number of clips where shards are written, and little where it is led."""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cocktail.media.clips import Clip
from pipelines.datasets.vggsound import index_vggsound
from pipelines.shards.manifest import SIDECAR_SUFFIX
from pipelines.shards.plan import SHARD_SCHEMA, ShardSettings, plan_shards
from pipelines.shards.signed_json import sign
from pipelines.shards.tars import DESCRIBED, SampleTar
from tests.made.corpora.miniature_clips import tone, write_clip
from tests.peak_memory import peak_bytes_of

# One process writes all shards of a data set, 128 MB each as by default.
WRITE = """
import sys
from pipelines.shards.plan import ShardSettings, plan_shards
from pipelines.shards.write import write_shard
from pipelines.datasets.vggsound import index_vggsound
settings = ShardSettings(dataset="many")
for row in plan_shards(index_vggsound(sys.argv[1], sys.argv[2]), settings).to_pylist():
    write_shard(row, settings, sys.argv[3])
"""


# What leads the sharding of a data set that is there but for its manifest.
LEAD = """
import sys
from pipelines.shards.plan import ShardSettings
from pipelines.shards.dataset import shard_dataset
from pipelines.datasets.vggsound import index_vggsound
shard_dataset(index_vggsound(sys.argv[1], sys.argv[2]), ShardSettings(dataset="many"), sys.argv[3])
"""


def write_csv(folder: Path, num_clips: int) -> Path:
    csv = folder / f"{num_clips}.csv"
    csv.write_text("".join(f"clip{number:07d},0,thunder,train\n" for number in range(num_clips)))
    return csv


def peak_mb(script: str, csv: Path, videos: Path, shards: Path) -> float:
    peak = peak_bytes_of(script, csv, videos, shards) / 2**20
    print(f"{csv.stem} clips: {peak:.0f} MB at most")
    return peak


@pytest.mark.slow
def test_ten_times_the_clips_need_no_more_memory(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    write_clip(tmp_path / "one.mp4", seconds=4, sound=np.stack([tone(10)] * 2))
    for number in range(2000):
        os.link(tmp_path / "one.mp4", videos / f"clip{number:07d}_000000.mp4")
    few, many = (
        peak_mb(WRITE, write_csv(tmp_path, num_clips), videos, tmp_path / f"shards-{num_clips}")
        for num_clips in (200, 2000)
    )
    assert many < few + 32


def write_sidecars(plan: pa.Table, settings: ShardSettings, folder: Path) -> None:
    """The sidecars of a plan, as if each of its clips held the same 10 s of sound and the same picture."""
    folder.mkdir()
    audio = np.ones(10 * settings.sample_rate_hz, np.int16)
    clip = Clip(audio=audio, pictures=(b"",), picture_seconds=(5.0,), duration_seconds=10.0, source_sha256="0" * 64)
    tar = SampleTar(io.BytesIO(), settings.sample_rate_hz)
    tar.add(plan["clips"][0][0].as_py(), clip)
    for row in plan.to_pylist():
        names = ({name: item[name] for name in DESCRIBED} | {"key": item["clip_id"]} for item in row["clips"])
        sidecar = {
            "schema": SHARD_SCHEMA,
            "name": row["shard"],
            **{name: row[name] for name in ("plan_hash", "deal_hash")},
            "settings": settings.deciding(),
            "tar_sha256": "0" * 64,
            "tar_bytes": 2**20,  # any length that the clip's bytes lie in
            "samples": [{**tar.samples[0], **named} for named in names],
            "quarantined": [],
        }
        (folder / f"{row['shard']}{SIDECAR_SUFFIX}").write_bytes(sign(sidecar))


@pytest.mark.slow
def test_leading_the_sharding_of_many_clips_takes_a_few_kilobytes_a_clip(tmp_path):
    """A sidecar in memory as it is parsed takes more than all that is kept of its clips."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(60000):
        (videos / f"clip{number:07d}_000000.mp4").touch()
    settings = ShardSettings(dataset="many")
    peaks = []
    for num_clips in (6000, 60000):
        csv, shards = write_csv(tmp_path, num_clips), tmp_path / f"shards-{num_clips}"
        write_sidecars(plan_shards(index_vggsound(str(csv), str(videos)), settings), settings, shards)
        peaks.append(peak_mb(LEAD, csv, videos, shards))
    assert peaks[1] - peaks[0] < 54000 * 0.004
