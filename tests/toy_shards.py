"""A data set of a few hundred kilobytes: real shards of random sound, with their manifest, but no media."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cocktail.storage import write_atomic
from pipelines.index import IndexRow, make_index
from pipelines.manifest import SIDECAR_SUFFIX, Manifest, open_manifest, write_manifest, write_quarantine
from pipelines.media import Clip
from pipelines.shard_plan import SHARD_SCHEMA, ShardSettings, digest
from pipelines.shards import table_from_sidecars
from pipelines.tars import AudioFormat, SampleTar, canonical_json

RATE = 1000
CLASSES = ("bell", "drum", "harp", "horn", "lute")


def make_toy_shards(
    folder: Path,
    *,
    num_shards: int = 4,
    clips_per_shard: int = 10,
    num_test: int = 6,
    classes: int = 5,
    audio_format: AudioFormat = "wav",
) -> Manifest:
    """Clips of 5 s at 1 kHz; sample t of clip c is a function of (c, t), so any read can be checked.

    The last clip of each training shard is silent but for its fourth second; test clips share one shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = ShardSettings(dataset="toy", sample_rate_hz=RATE, audio_format=audio_format)
    sidecars = []
    number = 0
    for shard in range(num_shards + 1):
        split, count = ("test", num_test) if shard == num_shards else ("train", clips_per_shard)
        name = f"{split}-{shard:05d}"
        with (folder / f"{name}.tar").open("wb") as file:
            tar = SampleTar(file, RATE, audio_format)
            for position in range(count):
                mostly_silent = split == "train" and position == count - 1
                audio = toy_audio(number, mostly_silent)
                tar.add(toy_row(number, split, classes), toy_clip(audio))
                number += 1
            tar_sha256 = tar.close()
        sidecar: dict[str, Any] = {
            "schema": SHARD_SCHEMA,
            "name": name,
            "plan_hash": "",
            "deal_hash": "",
            "settings": settings.deciding(),
            "tar_sha256": tar_sha256,
            "tar_bytes": tar.num_bytes,
            "samples": tar.samples,
            "quarantined": [],
        }
        sidecars.append(sidecar)
        text = canonical_json({**sidecar, "sidecar_sha256": digest(sidecar)})
        write_atomic(str(folder / f"{name}{SIDECAR_SUFFIX}"), text)
    metadata = {"classes": canonical_json(CLASSES[:classes]).decode(), "notes": "[]"}
    write_quarantine(str(folder), [])
    write_manifest(str(folder), table_from_sidecars(sidecars, metadata))
    return open_manifest(str(folder))


def toy_row(number: int, split: str, classes: int) -> dict[str, Any]:
    """The index row of a clip."""
    label = CLASSES[number % classes]
    row = IndexRow(clip_id=f"clip{number:03d}", media_path="", labels=(label,), split=split, nominal_seconds=5.0)
    return make_index([row], CLASSES[:classes]).to_pylist()[0]


def toy_clip(audio: np.ndarray) -> Clip:
    """Sound without pictures."""
    return Clip(audio=audio, pictures=(), picture_seconds=(), duration_seconds=len(audio) / RATE, source_sha256="")


def toy_audio(number: int, mostly_silent: bool = False) -> np.ndarray:
    """int16 [5000], from -12000 to 12000."""
    audio = np.random.default_rng(number).integers(-12000, 12000, 5 * RATE).astype("<i2")
    if mostly_silent:
        audio[: 3 * RATE] = 0
        audio[4 * RATE :] = 0
    return audio
