"""Time and memory of planning an epoch of 200,000 clips.

    python tests/benchmarks/planning.py                            # a mixture a clip
    python tests/benchmarks/planning.py --mixtures 50000000        # an epoch of so many

The manifest is made up: 10 s clips of 309 classes with a picture each, 500 a shard. Prints seconds to the first batch,
to a batch in the middle, and for all rows unless there are very many, and the most memory that it took beyond what was
there before. Only Linux lets the peak count from a point.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import numpy as np
import pyarrow as pa

from cocktail.config.mixing import Mixing
from pipelines.plans.plan import EpochPlan
from pipelines.plans.pool import usable_clips
from pipelines.shards.manifest import MANIFEST_COLUMNS, Manifest
from tests.peak_memory import begin_peak, peak_bytes

BATCH = 80
CLASSES, SECONDS, RATE = 309, 10, 11025


def make_manifest(num_clips: int) -> Manifest:
    """As large as VGG-Sound's, without shards."""
    generator = np.random.default_rng(0)
    number = np.arange(num_clips)

    def lists(values: np.ndarray, length: int) -> pa.Array:
        offsets = np.arange(0, length * num_clips + 1, length, dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))

    columns = {
        "clip_id": pa.array([f"abcdefghijk_{n:06d}" for n in number]),
        "shard": pa.array([f"train-{n // 500:05d}-of-00300.tar" for n in number]),
        "split": pa.array(["train"] * num_clips),
        "class_ids": lists((number % CLASSES).astype(np.int32), 1),
        "audio_offset": pa.array(number % 500 * 250_000),
        "audio_bytes": pa.array(np.full(num_clips, 2 * SECONDS * RATE)),
        "num_samples": pa.array(np.full(num_clips, SECONDS * RATE, np.int32)),
        "rms": lists(generator.random(SECONDS * num_clips, np.float32), SECONDS),
        "checks": lists(generator.integers(0, 2**63, SECONDS * num_clips, np.uint64), SECONDS),
        "frame_offsets": lists(number, 1),
        "frame_sizes": lists(number.astype(np.int32), 1),
        "frame_checks": lists(number.astype(np.uint64), 1),
        "frame_seconds": lists(np.full(num_clips, 5.0), 1),
    }
    table = pa.table(
        {field.name: columns.get(field.name, pa.nulls(num_clips, field.type)) for field in MANIFEST_COLUMNS}
    )
    metadata = {"sample_rate_hz": str(RATE), "dataset": "made-up"}
    return Manifest(folder="nowhere", table=table, metadata=metadata, quarantine_sha256="")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mixtures", type=int, help="of an epoch; one a clip without it")
    parser.add_argument("--walk", type=int, default=10_000_000, help="rows that are made one after the other at most")
    parser.add_argument("--clips", type=int, default=200_000)
    arguments = parser.parse_args()
    manifest = make_manifest(arguments.clips)
    before, begin = begin_peak(), time.perf_counter()
    pool = usable_clips(manifest, Mixing(mixtures_per_epoch=arguments.mixtures), "train")
    found = time.perf_counter()
    plan = EpochPlan(pool=pool, seed=0, epoch=0)
    plan.rows(np.arange(BATCH))
    first = time.perf_counter()
    middle = len(plan) // 2
    plan.rows(np.arange(middle, middle + BATCH))
    entered = time.perf_counter()
    walked = 0
    for rows in plan.all_rows():
        walked += len(rows)
        if walked >= arguments.walk:
            break
    ended = time.perf_counter()
    print(
        f"{len(plan)} mixtures: clips {found - begin:.2f} s, first batch {first - found:.2f} s, one in the middle "
        f"{entered - first:.2f} s, {walked} rows {ended - entered:.2f} s, "
        f"{(peak_bytes() - before) / 1e6:.0f} MB more at most"
    )


if __name__ == "__main__":
    main()
