"""Memory while sharding does not grow with the number of clips."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.miniature_clips import tone, write_clip

PROJECT = Path(__file__).resolve().parents[2]
# One process writes all shards of a data set, 128 MB each as by default, and prints the most memory it had, in MB.
SCRIPT = """
import resource, sys
from pipelines.shard_plan import ShardSettings, plan_shards
from pipelines.shards import write_shard
from pipelines.vggsound import index_vggsound
settings = ShardSettings(dataset="many")
for row in plan_shards(index_vggsound(sys.argv[1], sys.argv[2]), settings).to_pylist():
    write_shard(row, settings, sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_mb(folder: Path, videos: Path, num_clips: int) -> float:
    csv = folder / f"{num_clips}.csv"
    csv.write_text("".join(f"clip{number:07d},0,thunder,train\n" for number in range(num_clips)))
    shown = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(csv), str(videos), str(folder / f"shards-{num_clips}")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "platform")])},
        capture_output=True,
        text=True,
        check=True,
    )
    written = sum(path.stat().st_size for path in (folder / f"shards-{num_clips}").glob("*.tar"))
    print(f"{num_clips} clips, {written / 1e6:.0f} MB of shards: {float(shown.stdout):.0f} MB at most")
    return float(shown.stdout)


@pytest.mark.slow
def test_ten_times_the_clips_need_no_more_memory(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    write_clip(tmp_path / "one.mp4", seconds=4, sound=np.stack([tone(10)] * 2))
    for number in range(2000):
        os.link(tmp_path / "one.mp4", videos / f"clip{number:07d}_000000.mp4")
    few, many = (peak_mb(tmp_path, videos, num_clips) for num_clips in (200, 2000))
    assert many < few + 32
