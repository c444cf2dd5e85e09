"""How many mixtures with pictures a second one core can load: our executors against a bare loop over loose files.

    python tests/benchmarks/picture_loading.py [--shards SHARDS]

Without --shards, shards are made: 96 clips of 10 s of noise at 22050 Hz, each with a smooth picture of 341 x 256. All
load the same mixtures, as AVGN trains on them: 2 sources of 3 s, each with a picture, of which a square is cut,
resized to 224 and now and then mirrored. The sum of the sources is taken as well.

- bare: soundfile reads the crop out of a loose wav file, Pillow a loose JPEG file; nothing is planned or checked.
- inline: our executor with one thread, on the same core, every second of sound and every picture checked.
- ray: our other executor on the cores that --ray-cpus names, from batch to batch once the first has come.

Before anything is timed, all mixtures are compared: those of our executor are the bare loop's, bit for bit. Beside the
clock's time stands the processors', of this process and all of Ray's: on a busy machine it is the one to look at.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import numpy as np
import psutil
import soundfile
import tyro
from PIL import Image

from cocktail.config.mixing import Mixing
from cocktail.media.pictures import to_jpeg
from cocktail.types import MixtureBatch
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.plan import plan_epoch
from pipelines.plans.pool import usable_clips
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.reader import read_audio, read_frame
from tests.made.corpora.toy_shards import CLASSES, toy_clip, toy_row, write_shards

RATE = 22050


@dataclass(frozen=True, kw_only=True)
class Arguments:
    shards: str | None = None
    """Shards of a data set with pictures at 22050 Hz."""
    mixtures: int = 512
    """Mixtures of each measurement; Ray's are four times as many."""
    batch_size: int = 128
    """Mixtures of a batch; AVGN's."""
    rounds: int = 3
    """Turns; the fastest counts."""
    ray_cpus: int = 2
    """Cores for Ray, which has processes of its own; 0 leaves it out."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a mixture, in seconds."""

    clock: float
    processor: float
    """Of this process and those that it has started."""


def make_shards(folder: Path, num_clips: int = 96) -> Manifest:
    """Noise, and pictures of a photograph's size with about as much to decode."""
    generator = np.random.default_rng(0)
    samples = []
    for number in range(num_clips):
        clip = toy_clip(generator.integers(-12000, 12000, 10 * RATE).astype("<i2"), rate=RATE)
        coarse = Image.fromarray(generator.integers(0, 256, (48, 64, 3), np.uint8))
        picture = to_jpeg(coarse.resize((341, 256), Image.Resampling.BICUBIC), 256)
        clip = replace(clip, pictures=(picture,), picture_seconds=(5.0,))
        samples.append((toy_row(number, "train", len(CLASSES)), clip))
    return write_shards(folder, {"train-00000": samples}, CLASSES, sample_rate_hz=RATE)


def write_loose(manifest: Manifest, folder: Path) -> None:
    """The clips of the training split as loose files: a wav, a JPEG for each picture."""
    for row in manifest.table.to_pylist():
        if row["split"] == "train":
            soundfile.write(folder / f"{row['clip_id']}.wav", read_audio(manifest, row), RATE, subtype="PCM_16")
            for place in range(len(row["frame_offsets"])):
                (folder / f"{row['clip_id']}.{place}.jpg").write_bytes(read_frame(manifest, row, place))


def bare(rows: list[dict[str, Any]], folder: Path, mixing: Mixing, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Sources and pictures of each batch, as a loop over loose files loads them."""
    T, side = mixing.segment_samples, mixing.picture_side
    for begin in range(0, len(rows), batch_size):
        sources = np.zeros((batch_size, mixing.num_sources, T), np.int16)
        pictures = np.zeros((batch_size, mixing.num_sources, 1, side, side, 3), np.uint8)
        for b, row in enumerate(rows[begin : begin + batch_size]):
            for n, clip_id in enumerate(row["clip_id"]):
                start = row["start"][n]
                sound, _ = soundfile.read(folder / f"{clip_id}.wav", start=start, stop=start + T, dtype="int16")
                sources[b, n] = sound if len(sound) == T else np.resize(sound, T)
                with Image.open(folder / f"{clip_id}.{row['picture'][n][0]}.jpg") as file:
                    picture = file.convert("RGB")
                x, y, mirror = row["square"][n]
                size = min(picture.size) * side / int(mixing.picture_margin * side)
                left, top = x * (picture.width - size), y * (picture.height - size)
                box = (left, top, left + size, top + size)
                pixels = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC, box=box))
                pictures[b, n, 0] = pixels[:, ::-1] if mirror < 0.5 else pixels
        yield sources, pictures


def timed(batches: Iterator[tuple[np.ndarray, ...]], num_mixtures: int, skipped: int = 0) -> Cost:
    """What a mixture takes, its sources summed; the first batches may be let pass, with what it takes to start."""
    for _ in range(skipped):
        next(batches)
    clock, before, count = time.perf_counter(), processor_seconds(), 0
    for sources, _ in batches:
        sources.sum(axis=1, dtype=np.int32)
        count += len(sources)
        if count >= num_mixtures:
            break
    seconds = time.perf_counter() - clock
    used = sum(now - before.get(process, 0.0) for process, now in processor_seconds().items())
    return Cost(clock=seconds / count, processor=used / count)


def processor_seconds() -> dict[int, float]:
    """What this process and each that it has started, Ray's among them, have used so far."""
    this = psutil.Process()
    found = {}
    for process in (this, *this.children(recursive=True)):
        times = process.cpu_times()
        found[process.pid] = times.user + times.system
    return found


def arrays(batch: MixtureBatch) -> tuple[np.ndarray, np.ndarray]:
    assert batch.pictures is not None
    return batch.sources.numpy(), batch.pictures.numpy()


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(all_cores)})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = open_manifest(arguments.shards) if arguments.shards else make_shards(folder / "shards")
        (folder / "loose").mkdir()
        write_loose(manifest, folder / "loose")
        size, count = arguments.batch_size, arguments.mixtures
        mixing = Mixing(
            sample_rate_hz=RATE, segment_samples=3 * RATE, pictures_per_source=1, mixtures_per_epoch=6 * count
        )
        rows = plan_epoch(usable_clips(manifest, mixing, "train"), seed=0, epoch=0).slice(0, count).to_pylist()

        def stream(executor: Literal["ray", "inline"]) -> Iterator[tuple[np.ndarray, ...]]:
            mixtures = MixtureStream(
                folder=manifest.folder,
                mixing=mixing,
                split="train",
                seed=0,
                batch_size=size,
                executor=executor,
                prefetch_batches=1 if executor == "inline" else 2,
            )
            return map(arrays, mixtures.batches(0, 0, 0, 1))

        for ours, theirs in zip(stream("inline"), bare(rows, folder / "loose", mixing, size), strict=False):
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one, other)
        measured: dict[str, list[Cost]] = {"bare": [], "inline": []}
        for _ in range(arguments.rounds):
            measured["bare"].append(timed(bare(rows, folder / "loose", mixing, size), count))
            measured["inline"].append(timed(stream("inline"), count, skipped=1))
        if arguments.ray_cpus:
            import ray

            os.sched_setaffinity(0, set(sorted(all_cores)[: arguments.ray_cpus]))
            os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
            ray.init(
                address="local", num_cpus=arguments.ray_cpus, include_dashboard=False, logging_level=logging.WARNING
            )
            measured["ray"] = [timed(stream("ray"), 4 * count, skipped=1) for _ in range(arguments.rounds)]
        report(measured, arguments)


def report(measured: dict[str, list[Cost]], arguments: Arguments) -> None:
    """Rates, and what a mixture costs of a core beside the bare loop."""
    print(
        f"{arguments.mixtures} mixtures of 2 x 3 s at {RATE} Hz and 2 pictures of 224, batches of "
        f"{arguments.batch_size}; fastest of {arguments.rounds} turns"
    )
    clock = {what: min(cost.clock for cost in costs) for what, costs in measured.items()}
    processor = {what: min(cost.processor for cost in costs) for what, costs in measured.items()}
    for what, seconds in clock.items():
        cores = arguments.ray_cpus if what == "ray" else 1
        told = f"{what:8}{1 / seconds:6,.0f} mixtures a second on {cores} core{'s' * (cores > 1):1}, "
        told += f"{1e3 * cores * seconds:6.2f} ms of a core each, {cores * seconds / clock['bare']:5.2f} x bare; "
        told += f"of the processors {1e3 * processor[what]:6.2f} ms, {processor[what] / processor['bare']:5.2f} x bare"
        print(told)


if __name__ == "__main__":
    main()
