"""A data set of a few hundred kilobytes: real shards of random sound, with their manifest, but no media."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cocktail.media.clips import Clip
from cocktail.media.pictures import encode_mask, to_jpeg
from cocktail.storage import write_atomic
from pipelines.datasets.index import IndexRow, make_index
from pipelines.shards.dataset import shards_metadata
from pipelines.shards.manifest import SIDECAR_SUFFIX, Manifest, commit_manifest
from pipelines.shards.plan import SHARD_SCHEMA, ShardSettings
from pipelines.shards.sidecars import manifest_rows
from pipelines.shards.signed_json import canonical_json, sign
from pipelines.shards.tars import AudioFormat, SampleTar

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
    with_pictures: bool = False,
) -> Manifest:
    """Clips of 5 s at 1 kHz; sample t of clip c is a function of (c, t), so any read can be checked.

    The last clip of each training shard is silent but for its fourth second; test clips share one shard.
    """
    shards: dict[str, list[tuple[dict[str, Any], Clip]]] = {}
    number = 0
    for shard in range(num_shards + 1):
        split, count = ("test", num_test) if shard == num_shards else ("train", clips_per_shard)
        shards[f"{split}-{shard:05d}"] = []
        for position in range(count):
            audio = toy_audio(number, mostly_silent=split == "train" and position == count - 1)
            clip = toy_clip(audio, number if with_pictures else None)
            shards[f"{split}-{shard:05d}"].append((toy_row(number, split, classes), clip))
            number += 1
    return write_shards(folder, shards, CLASSES[:classes], audio_format=audio_format)


def write_shards(
    folder: Path,
    shards: Mapping[str, Iterable[tuple[Mapping[str, Any], Clip]]],
    classes: Sequence[str],
    *,
    sample_rate_hz: int = RATE,
    audio_format: AudioFormat = "wav",
) -> Manifest:
    """A finished data set of index rows with their clips, by shard."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = ShardSettings(dataset="toy", sample_rate_hz=sample_rate_hz, audio_format=audio_format)
    sidecars = []
    recordings: dict[str, str] = {}
    for name, samples in shards.items():
        with (folder / f"{name}.tar").open("wb") as file:
            tar = SampleTar(file, sample_rate_hz, audio_format)
            for row, clip in samples:
                tar.add(row, clip)
                recordings[row["clip_id"]] = row["recording"]
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
        write_atomic(str(folder / f"{name}{SIDECAR_SUFFIX}"), sign(sidecar))
    index_says = {"classes": canonical_json(list(classes)).decode(), "notes": "[]"}
    tables = [manifest_rows(sidecar, recordings) for sidecar in sidecars]
    return commit_manifest(str(folder), tables, [], shards_metadata(sidecars) | index_says)


def make_noise_shards(folder: Path, *, num_shards: int = 8, clips_per_shard: int = 64) -> Manifest:
    """Shards for measurements: clips of 10 s of noise at 11025 Hz."""
    generator = np.random.default_rng(0)
    shards = {
        f"train-{shard:05d}": [
            (
                toy_row(shard * clips_per_shard + number, "train", len(CLASSES)),
                toy_clip(generator.integers(-12000, 12000, 110250).astype("<i2"), rate=11025),
            )
            for number in range(clips_per_shard)
        ]
        for shard in range(num_shards)
    }
    return write_shards(folder, shards, CLASSES, sample_rate_hz=11025)


def toy_row(number: int, split: str, classes: int) -> dict[str, Any]:
    """The index row of a clip."""
    label = CLASSES[number % classes]
    name = f"clip{number:03d}"
    row = IndexRow(clip_id=name, recording=name, media_path="", labels=(label,), split=split, nominal_seconds=5.0)
    return make_index([row], CLASSES[:classes]).to_pylist()[0]


def toy_clip(audio: np.ndarray, picture_number: int | None = None, rate: int = RATE) -> Clip:
    """Sound without pictures, or with one and its mask."""
    clip = Clip(audio=audio, pictures=(), picture_seconds=(), duration_seconds=len(audio) / rate, source_sha256="")
    if picture_number is None:
        return clip
    pixels = np.random.default_rng(picture_number).integers(0, 255, (24, 32, 3), np.uint8)
    picture = to_jpeg(Image.fromarray(pixels), 24)
    mask = encode_mask(pixels[..., 0] > 127)
    return replace(clip, pictures=(picture,), picture_seconds=(2.5,), mask=mask)


def toy_audio(number: int, mostly_silent: bool = False) -> np.ndarray:
    """int16 [5000], from -12000 to 12000."""
    audio = np.random.default_rng(number).integers(-12000, 12000, 5 * RATE).astype("<i2")
    if mostly_silent:
        audio[: 3 * RATE] = 0
        audio[4 * RATE :] = 0
    return audio
