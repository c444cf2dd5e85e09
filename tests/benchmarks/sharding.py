"""Sharding mp4 clips against a bare loop that decodes and resamples the same clips.

    python tests/benchmarks/sharding.py --csv vggsound.csv --videos FOLDER

Prints clips a second of one core for: a bare PyAV loop (the sound decoded and resampled, the middle picture
decoded, nothing kept), and `write_shard`, which also folds channels, looks for damage, encodes the picture, hashes
and writes; both measured in turns, in CPU time. Then clips a second of wall time with one and with two Ray tasks.
Last the size of the shards and the speed of reading random crops of 6 s out of them, PCM against FLAC.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import av
import numpy as np
import psutil
import soxr
import tyro

from cocktail.cluster.connection import connect
from pipelines.datasets.vggsound import index_vggsound
from pipelines.shards.dataset import shard_dataset
from pipelines.shards.manifest import Manifest
from pipelines.shards.plan import ShardSettings, plan_shards
from pipelines.shards.reader import ClipReader, ClipSource
from pipelines.shards.write import write_shard

CROP_SECONDS = 6


@dataclass(frozen=True, kw_only=True)
class Arguments:
    csv: str
    """vggsound.csv."""
    videos: str
    """Folder of its clips."""
    clips: int = 200
    """How many clips to take, at most."""
    rounds: int = 3
    """Turns of the two loops on one core."""
    crops: int = 4000
    """Random crops to read of each format."""


def bare_loop(path: str, sample_rate_hz: int) -> None:
    """The least that any such program has to do."""
    with av.open(path) as container:
        audio, video = container.streams.audio[0], container.streams.video[0]
        audio.codec_context.thread_count = video.codec_context.thread_count = 1
        chunks = [frame.to_ndarray() for frame in container.decode(audio)]
        sound = np.concatenate(chunks, axis=1).mean(axis=0)
        soxr.resample(sound, audio.rate, sample_rate_hz, quality="HQ")
        middle = len(sound) / audio.rate / 2
        assert video.time_base is not None
        container.seek(int(middle / video.time_base), stream=video)
        for frame in container.decode(video):
            if frame.time is not None and frame.time >= middle:
                frame.to_image(threads=1)
                break


def cpu_seconds(function, *arguments) -> float:
    """Time of a processor that a call takes, in this process and in the one that decodes for it."""
    begin = cpu_time()
    function(*arguments)
    return cpu_time() - begin


def cpu_time() -> float:
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (me, *me.children(recursive=True)))


def measure_one_core(plan, index, settings: ShardSettings, folder: Path, rounds: int) -> None:
    paths = index["media_path"].to_pylist()
    bare, ours = [], []
    for number in range(rounds):
        bare.append(cpu_seconds(lambda: [bare_loop(path, settings.sample_rate_hz) for path in paths]))
        target = str(folder / f"one-core-{number}")
        ours.append(cpu_seconds(lambda to=target: [write_shard(row, settings, to) for row in plan.to_pylist()]))
    ratios = sorted(one / other for one, other in zip(ours, bare, strict=True))
    print(f"one core, bare PyAV loop: {len(paths) / min(bare):6.1f} clips a CPU second")
    print(f"one core, write_shard:    {len(paths) / min(ours):6.1f} clips a CPU second")
    print(f"write_shard takes {ratios[len(ratios) // 2]:.2f}x the CPU time of the bare loop (median of {rounds} turns)")


def measure_ray(index, settings: ShardSettings, folder: Path) -> Manifest:
    connect()
    shard_dataset(index, replace(settings, num_tasks=2), str(folder / "warm-up"))
    seconds = {}
    for num_tasks in (1, 2):
        begin = time.perf_counter()
        manifest = shard_dataset(index, replace(settings, num_tasks=num_tasks), str(folder / f"tasks-{num_tasks}"))
        seconds[num_tasks] = time.perf_counter() - begin
    for num_tasks, taken in seconds.items():
        print(f"Ray, {num_tasks} task(s): {len(index) / taken:6.1f} clips a second of wall time")
    print(f"two tasks are {seconds[1] / seconds[2]:.2f}x as fast as one")
    return manifest


def crops_per_second(manifest: Manifest, num_crops: int) -> float:
    source, rate = ClipSource.of(manifest), manifest.sample_rate_hz
    rows = [row for row in manifest.table.to_pylist() if row["num_samples"] > CROP_SECONDS * rate]
    generator = np.random.default_rng(0)
    picks = [(rows[generator.integers(len(rows))], generator.random()) for _ in range(num_crops)]
    begin = time.perf_counter()
    with ClipReader(source) as reader:
        for row, where in picks:
            start = int(where * (row["num_samples"] - CROP_SECONDS * rate))
            checks = row["checks"][start // rate : -(-(start + CROP_SECONDS * rate) // rate)]
            reader.sound(row, start, CROP_SECONDS * rate, checks)
    return num_crops / (time.perf_counter() - begin)


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    settings = ShardSettings(dataset="benchmark", shard_mb=5.0, max_bad_share=1.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = index_vggsound(arguments.csv, arguments.videos)
        # Only clips without a fault: the bare loop would stop at others.
        connect()
        good = set(shard_dataset(listed, settings, str(folder / "all")).table["clip_id"].to_pylist())
        keep = [
            number
            for number, (clip_id, problem) in enumerate(
                zip(listed["clip_id"].to_pylist(), listed["problem"].to_pylist(), strict=True)
            )
            if clip_id in good and problem is None
        ]
        index = listed.take(keep[: arguments.clips])
        plan = plan_shards(index, settings)
        print(f"\n{len(index)} clips, {len(plan)} shards")
        measure_one_core(plan, index, settings, folder, arguments.rounds)
        wav = measure_ray(index, settings, folder)
        flac = shard_dataset(index, replace(settings, audio_format="flac"), str(folder / "flac"))
        print()
        for manifest in (wav, flac):
            crops_per_second(manifest, 200)  # opens the files
            print(
                f"{manifest.audio_format:4}: {int(manifest.metadata['bytes']) / len(manifest.table) / 1e3:6.1f} kB a "
                f"clip, {crops_per_second(manifest, arguments.crops):7.0f} crops of {CROP_SECONDS} s a second"
            )
        shutil.rmtree(folder / "all")


if __name__ == "__main__":
    main()
