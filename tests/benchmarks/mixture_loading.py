"""How many mixtures a second one core can load: the floor, our executors, and webdataset with soundfile.

    python tests/benchmarks/mixture_loading.py [--shards SHARDS]

Without --shards, shards of noise are made: 512 clips of 10 s at 11025 Hz. All read 2 sources of 5.94 s a mixture,
on one core (the process is pinned to it; Ray is given the cores that --ray-cpus names):

- floor: the crops of the very same plan rows, read by offset into int16 arrays and summed; nothing is checked.
- inline: our executor without threads of its own, every second checked; then the sum, as the floor does.
- inline, 2 threads: as in training, batches rendered ahead; on the one core threads can only cost.
- ray: our other executor, the time from batch to batch once the first has come, over five times as many mixtures
  because its processes take time to start, and the time to the first.
- webdataset + soundfile: the shards streamed and decoded whole, cropped, paired, stacked and summed.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import numpy as np
import soundfile
import tyro
from webdataset.compat import WebDataset

from cocktail.config.mixing import Mixing
from pipelines.mixtures.batches import to_batch
from pipelines.mixtures.render import render
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.plan import plan_epoch
from pipelines.plans.pool import usable_clips
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_shards import make_noise_shards


@dataclass(frozen=True, kw_only=True)
class Arguments:
    shards: str | None = None
    """Shards of a data set at 11025 Hz."""
    mixtures: int = 1920
    """Mixtures of each measurement."""
    batch_size: int = 80
    """Mixtures of a batch."""
    rounds: int = 3
    """Turns; the fastest counts."""
    ray_cpus: int = 2
    """Cores for Ray, which has processes of its own; 0 leaves it out."""


def floor(plan, manifest: Manifest, mixing: Mixing, batch_size: int) -> None:
    columns = [plan[name].to_pylist() for name in ("shard", "audio_offset", "start", "num_samples")]
    files = {name: os.open(f"{manifest.folder}/{name}", os.O_RDONLY) for name in manifest.shards}
    for begin in range(0, len(plan), batch_size):
        sources = np.zeros((batch_size, mixing.num_sources, mixing.segment_samples), np.int16)
        for b in range(batch_size):
            row = [column[begin + b] for column in columns]
            for n, (shard, offset, start, num_samples) in enumerate(zip(*row, strict=True)):
                count = min(mixing.segment_samples, num_samples - start)
                os.preadv(files[shard], [sources[b, n, :count].view(np.uint8).data], offset + 2 * start)
        sources.sum(axis=1, dtype=np.int32)
    for file in files.values():
        os.close(file)


def inline(plan, manifest: Manifest, mixing: Mixing, batch_size: int) -> None:
    source = ClipSource.of(manifest)
    for begin in range(0, len(plan), batch_size):
        batch = to_batch(render(plan.slice(begin, batch_size), source, mixing))
        batch.sources.numpy().sum(axis=1, dtype=np.int32)


def peer(manifest: Manifest, mixing: Mixing, num_mixtures: int) -> None:
    """Two sources of different labels out of a shuffled stream, cropped at random, stacked and summed."""
    urls = [f"{manifest.folder}/{name}" for name in sorted(manifest.shards) if name.startswith("train")]
    clips = iter(WebDataset(urls, shardshuffle=False).repeat().shuffle(32))  # pyright: ignore[reportAttributeAccessIssue]
    generator = np.random.default_rng(0)

    def crops() -> Iterator[tuple[str, np.ndarray]]:
        for sample in clips:
            audio, _ = soundfile.read(io.BytesIO(sample["wav"]), dtype="int16")
            start = generator.integers(max(len(audio) - mixing.segment_samples, 0) + 1)
            crop = audio[start : start + mixing.segment_samples]
            yield json.loads(sample["json"])["labels"][0], np.resize(crop, mixing.segment_samples)

    stream = crops()
    for _ in range(num_mixtures):
        label, crop = next(stream)
        other, partner = next(stream)
        while other == label:
            other, partner = next(stream)
        np.stack([crop, partner]).sum(axis=0, dtype=np.int32)


def rate(count: int, function, *arguments) -> float:
    begin = time.perf_counter()
    function(*arguments)
    return count / (time.perf_counter() - begin)


def through_stream(stream: MixtureStream, num_mixtures: int) -> tuple[float, float]:
    """(mixtures a second after the first batch, seconds to the first)."""
    batches, begin = stream.batches(0, 0, 0, 1), time.perf_counter()
    next(batches)
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    for _ in range(num_mixtures // stream.batch_size - 1):
        next(batches).sources.numpy().sum(axis=1, dtype=np.int32)
    seconds = time.perf_counter() - begin
    batches.close()  # pyright: ignore[reportAttributeAccessIssue]
    return (num_mixtures - stream.batch_size) / seconds, first


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(all_cores)})
    with tempfile.TemporaryDirectory() as name:
        manifest = open_manifest(arguments.shards) if arguments.shards else make_noise_shards(Path(name))
        size, count = arguments.batch_size, arguments.mixtures
        passes = -(-6 * count // len(manifest.table))
        mixing = Mixing(passes_per_epoch=passes)
        plan = plan_epoch(usable_clips(manifest, mixing, "train"), seed=0, epoch=0).slice(0, count)

        def stream(executor: Literal["ray", "inline"]) -> MixtureStream:
            return MixtureStream(
                folder=manifest.folder, mixing=mixing, split="train", seed=0, batch_size=size, executor=executor
            )

        measured: dict[str, list[float]] = {}
        for number in range(arguments.rounds + 1):  # the first round fills the page cache
            rates = {
                "floor": rate(count, floor, plan, manifest, mixing, size),
                "inline": rate(count, inline, plan, manifest, mixing, size),
                "inline, 2 threads": through_stream(stream("inline"), count)[0],
                "webdataset + soundfile": rate(count // 4, peer, manifest, mixing, count // 4),
            }
            for what, value in rates.items() if number else ():
                measured.setdefault(what, []).append(value)
        best = {what: max(values) for what, values in measured.items()}
        if arguments.ray_cpus:
            import ray

            os.sched_setaffinity(0, set(sorted(all_cores)[: arguments.ray_cpus]))
            os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
            ray.init(
                address="local", num_cpus=arguments.ray_cpus, include_dashboard=False, logging_level=logging.WARNING
            )
            runs = [through_stream(stream("ray"), 5 * count) for _ in range(arguments.rounds + 1)][1:]
            best["ray"] = max(per_second for per_second, _ in runs)
            print(f"ray: {min(first for _, first in runs):.2f} s to the first batch, {arguments.ray_cpus} cores")
        print(
            f"{count} mixtures of 2 x {mixing.segment_samples} samples, batches of {size}; "
            f"fastest of {arguments.rounds} turns"
        )
        for what, value in best.items():
            print(
                f"{what:24}{value:10,.0f} mixtures a second {1e3 / value:8.3f} ms a mixture "
                f"{best['floor'] / value:6.2f} x the floor's time"
            )
        if "ray" in best:
            print(f"ray costs {1e3 / best['ray'] - 1e3 / best['inline']:.3f} ms a mixture more than inline")


if __name__ == "__main__":
    main()
