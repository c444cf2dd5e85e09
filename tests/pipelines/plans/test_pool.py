"""What a pool says of the seconds of its clips is so, and takes as much memory as there are seconds."""

import json
import tracemalloc

import numpy as np
import pyarrow as pa

from cocktail.config.mixing import Mixing
from pipelines.plans.pool import usable_clips
from pipelines.shards.contents import check_clips
from pipelines.shards.manifest import MANIFEST_COLUMNS, Manifest

RATE = 10
MIXING = Mixing(sample_rate_hz=RATE, segment_samples=25, silence_dbfs=-60.0)


def manifest_of(num_samples: np.ndarray, rms: np.ndarray) -> Manifest:
    """A manifest of clips of two classes in turn, with the levels of their seconds one after the other."""
    count = len(num_samples)
    begins = np.concatenate([[0], np.cumsum(-(-num_samples // RATE))]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(2 * num_samples)[:-1]])
    empty = np.zeros(count + 1, np.int32)
    columns = {
        **dict.fromkeys(("clip_id", "recording", "key"), pa.array([f"clip{number}" for number in range(count)])),
        "shard": pa.array(["train-00000.tar"] * count),
        "split": pa.array(["train"] * count),
        "labels": pa.array([["bell"], ["drum"]] * (count // 2)),
        "class_ids": pa.array([[0], [1]] * (count // 2), pa.list_(pa.int32())),
        "audio_offset": pa.array(offsets),
        "audio_bytes": pa.array(2 * num_samples),
        "num_samples": pa.array(num_samples, pa.int32()),
        "rms": pa.ListArray.from_arrays(pa.array(begins), pa.array(rms, pa.float32())),
        "checks": pa.ListArray.from_arrays(pa.array(begins), pa.array(np.ones(len(rms), np.uint64))),
        "duration": pa.array(num_samples / RATE),
    }
    for field in MANIFEST_COLUMNS:
        if field.name.startswith("frame_"):
            columns[field.name] = pa.ListArray.from_arrays(pa.array(empty), pa.array([], field.type.value_type))
    table = pa.table([columns.get(f.name, pa.nulls(count, f.type)) for f in MANIFEST_COLUMNS], MANIFEST_COLUMNS)
    metadata = {"sample_rate_hz": str(RATE), "dataset": "made", "classes": json.dumps(["bell", "drum"])}
    return Manifest(folder="nowhere", table=table, metadata=metadata, quarantine_sha256="")


def whole_seconds(num_samples: int, levels: list[float]) -> list[float]:
    return levels[: num_samples // RATE]


def test_crops_that_sound_and_loudest_seconds_are_those_that_a_look_at_each_second_finds():
    generator = np.random.default_rng(0)
    num_samples = generator.integers(1, 90, 400)
    begins = np.concatenate([[0], np.cumsum(-(-num_samples // RATE))])
    rms = generator.choice([0.0, 1e-4, 0.1, 0.2], begins[-1])
    levels = [rms[begins[clip] : begins[clip + 1]].tolist() for clip in range(len(num_samples))]
    pool = usable_clips(manifest_of(num_samples, rms), MIXING, "train")
    sounding = [
        clip for clip, size in enumerate(num_samples) if max(whole_seconds(size, levels[clip]), default=0) > 0.01
    ]
    assert pool.table["clip_id"].to_pylist() == [f"clip{clip}" for clip in sounding]
    assert 0 < pool.left_out["silent"] == len(num_samples) - len(sounding)
    found = 0
    for row, clip in enumerate(sounding):
        whole = whole_seconds(num_samples[clip], levels[clip])
        assert pool.loudest[row] == whole.index(max(whole))
        starts = np.arange(num_samples[clip] + RATE)
        expected = [
            any(
                start <= RATE * second and RATE * (second + 1) <= min(start + MIXING.segment_samples, num_samples[clip])
                for second, level in enumerate(whole)
                if level > 0.01
            )
            for start in starts
        ]
        assert pool.sounds(np.full(len(starts), row), starts).tolist() == expected
        found += sum(expected)
    assert found


def test_one_clip_of_hours_among_many_short_ones_opens_and_takes_no_more_memory_than_its_seconds():
    num_samples = np.full(40_000, RATE)
    num_samples[7] = 10_000 * RATE
    rms = np.full(num_samples.sum() // RATE, 0.1)
    manifest = manifest_of(num_samples, rms)
    check_clips(manifest.table, {"train-00000.tar": int(2 * num_samples.sum())}, RATE, "wav", num_classes=2)
    tracemalloc.start()
    pool = usable_clips(manifest, MIXING, "train")
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pool) == 40_000
    assert most_bytes < 40_000_000  # a byte a clip and second of the longest would be 400 MB
