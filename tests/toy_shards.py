"""A data set of a few hundred kilobytes: PCM laid out as in real shards, with its manifest, but no media."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pipelines.manifest import Manifest, open_manifest, write_manifest

RATE = 1000
CLASSES = ("bell", "drum", "harp", "horn", "lute")


def make_toy_shards(
    folder: Path, *, num_shards: int = 4, clips_per_shard: int = 10, num_test: int = 6, classes: int = 5
) -> Manifest:
    """Clips of 5 s at 1 kHz; sample t of clip c is a function of (c, t), so any read can be checked.

    The last clip of each training shard is silent but for its fourth second; test clips share one shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    number = 0
    for shard in range(num_shards + 1):
        split, count = ("test", num_test) if shard == num_shards else ("train", clips_per_shard)
        name = f"{split}-{shard:05d}.tar"
        data = bytearray()
        for position in range(count):
            mostly_silent = split == "train" and position == count - 1
            audio = toy_audio(number, mostly_silent)
            seconds = audio.reshape(5, RATE).astype(np.float64) / 32768
            data += bytes(512)
            rows.append(
                {
                    "clip_id": f"clip{number:03d}",
                    "shard": name,
                    "split": split,
                    "label": CLASSES[number % classes],
                    "class_id": number % classes,
                    "audio_offset": len(data),
                    "num_samples": len(audio),
                    "rms": np.sqrt((seconds**2).mean(axis=1)).tolist(),
                    "duration": 5.0,
                    "frame_offsets": [],
                    "frame_sizes": [],
                }
            )
            data += audio.tobytes()
            number += 1
        (folder / name).write_bytes(bytes(data))
    metadata = {
        "dataset": "toy",
        "sample_rate_hz": str(RATE),
        "classes": json.dumps(CLASSES[:classes]),
        "root_hash": f"toy-{num_shards}-{clips_per_shard}-{num_test}-{classes}",
    }
    write_manifest(str(folder), rows, metadata)
    return open_manifest(str(folder))


def toy_audio(number: int, mostly_silent: bool = False) -> np.ndarray:
    """int16 [5000], from -12000 to 12000."""
    audio = np.random.default_rng(number).integers(-12000, 12000, 5 * RATE).astype("<i2")
    if mostly_silent:
        audio[: 3 * RATE] = 0
        audio[4 * RATE :] = 0
    return audio
