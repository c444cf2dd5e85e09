"""Memory that the clips of a data set take of each training process of a node.

    python tests/benchmarks/worker_memory.py                  # 200,000 clips, 4 processes
    python tests/benchmarks/worker_memory.py --cache ""       # each with all of it for itself

The manifest is made up: 10 s clips of 309 classes with a picture each, 500 a shard. Each process opens it, and plans a
few batches; then, while all are there, it says how much more memory it has than before: its own (USS), and with
its share of what it has in common with others (PSS). Only Linux tells the latter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from multiprocessing.synchronize import Barrier
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import numpy as np
import psutil
import pyarrow as pa

from cocktail.config.mixing import Mixing
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.plan import EpochPlan
from pipelines.shards.cache import ShardCache
from pipelines.shards.manifest import MANIFEST_COLUMNS, commit_manifest
from pipelines.shards.signed_json import digest

BATCH, CLIPS_A_SHARD = 80, 500
CLASSES, SECONDS, RATE = 309, 10, 11025
CLIP_BYTES = 2 * SECONDS * RATE + 30_000


def write_manifest(folder: Path, num_clips: int) -> None:
    """The manifest of a data set as large as VGG-Sound, without its shards."""
    generator = np.random.default_rng(0)
    number = np.arange(num_clips)
    place = number % CLIPS_A_SHARD * CLIP_BYTES
    num_shards = -(-num_clips // CLIPS_A_SHARD)
    shards = [f"train-{n:05d}-of-{num_shards:05d}.tar" for n in range(num_shards)]

    def lists(values: np.ndarray, length: int) -> pa.Array:
        offsets = np.arange(0, length * num_clips + 1, length, dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))

    columns = {
        "clip_id": pa.array([f"abcdefghijk_{n:06d}" for n in number]),
        "recording": pa.array([f"abcdefg{n:06d}" for n in number]),
        "key": pa.array([f"abcdefghijk_{n:06d}" for n in number]),
        "shard": pa.array([shards[n // CLIPS_A_SHARD] for n in number]),
        "split": pa.array(["train"] * num_clips),
        "labels": pa.array([[f"class {n % CLASSES}"] for n in number]),
        "class_ids": lists((number % CLASSES).astype(np.int32), 1),
        "audio_offset": pa.array(place),
        "audio_bytes": pa.array(np.full(num_clips, 2 * SECONDS * RATE)),
        "num_samples": pa.array(np.full(num_clips, SECONDS * RATE, np.int32)),
        "rms": lists(generator.random(SECONDS * num_clips, np.float32), SECONDS),
        "checks": lists(generator.integers(0, 2**63, SECONDS * num_clips, np.uint64), SECONDS),
        "duration": pa.array(np.full(num_clips, float(SECONDS))),
        "frame_offsets": lists(place + 2 * SECONDS * RATE, 1),
        "frame_sizes": lists(np.full(num_clips, 30_000, np.int32), 1),
        "frame_checks": lists(generator.integers(0, 2**63, num_clips, np.uint64), 1),
        "frame_seconds": lists(np.full(num_clips, 5.0), 1),
    }
    table = pa.table([columns.get(f.name, pa.nulls(num_clips, f.type)) for f in MANIFEST_COLUMNS], MANIFEST_COLUMNS)
    listed = {name: ("0" * 64, CLIPS_A_SHARD * CLIP_BYTES) for name in shards}
    metadata = {
        "dataset": "made-up",
        "sample_rate_hz": str(RATE),
        "audio_format": "wav",
        "bytes": "0",
        "planned": str(num_clips),
        "good": str(num_clips),
        "quarantined": "0",
        "classes": json.dumps([f"class {n}" for n in range(CLASSES)]),
        "notes": "[]",
        "shards": json.dumps(listed),
        "root_hash": digest(sorted([name.removesuffix(".tar"), sha256] for name, (sha256, _) in listed.items())),
    }
    commit_manifest(str(folder), [table], [], metadata)


def own_and_share() -> np.ndarray:
    """USS and PSS of this process in bytes, int64 [2]."""
    memory = psutil.Process().memory_full_info()
    return np.array([memory.uss, memory.pss])


def work(folder: str, cache: ShardCache | None, all_there: Barrier, told: multiprocessing.Queue) -> None:
    """Open the data set, plan some batches, and tell what memory that took."""
    before = own_and_share()
    stream = MixtureStream(
        folder=folder, mixing=Mixing(pictures_per_source=1), split="train", seed=0, batch_size=BATCH, cache=cache
    )
    plan = EpochPlan(pool=stream.pool, seed=0, epoch=0)
    for first in range(0, 50 * BATCH, BATCH):
        plan.rows(np.arange(first, first + BATCH))
    all_there.wait()
    told.put((own_and_share() - before).tolist())
    all_there.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--cache", help='folder of the node\'s cache, "" for none; if not given, a temporary one')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(Path(folder), arguments.clips)
        chosen = str(Path(folder) / "cache") if arguments.cache is None else arguments.cache
        cache = ShardCache(max_bytes=1, chosen_folder=chosen) if chosen else None
        spawn = multiprocessing.get_context("spawn")
        all_there, told = spawn.Barrier(arguments.processes), spawn.Queue()
        processes = [
            spawn.Process(target=work, args=(folder, cache, all_there, told), daemon=True)
            for _ in range(arguments.processes)
        ]
        for process in processes:
            process.start()
        for own, share in sorted(told.get(timeout=300) for _ in processes):
            print(f"{own / 1e6:.0f} MB of its own, {share / 1e6:.0f} MB with its share")
        for process in processes:
            process.join()


if __name__ == "__main__":
    main()
