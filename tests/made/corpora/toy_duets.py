"""A data set as MUSIC's is: solos and duets with a picture a second, boxes in some of them, no media."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cocktail.config.mixing import Mixing
from cocktail.media.clips import Clip
from cocktail.media.pictures import to_jpeg
from pipelines.datasets.index import Box, IndexRow, make_index
from pipelines.shards.manifest import Manifest
from tests.made.corpora.toy_shards import CLASSES, RATE, write_shards

SECONDS = 12
LABELS = {
    "duet0": ("drum", "bell"),
    "duet1": ("harp", "horn"),
    "solo0": ("bell",),
    "solo1": ("drum",),
    "trio0": ("bell", "drum", "harp"),
    "none0": (),
}
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
BOXES = {
    # The drum stands left; at 6 s it hides the bell, which nobody marked.
    "duet0": (Box(5, "drum", *LEFT), Box(5, "bell", *RIGHT), Box(6, "drum", *LEFT)),
    "duet1": (),
    "solo0": (Box(0, "bell", *LEFT), Box(3, "bell", *LEFT), Box(3, "bell", *RIGHT), Box(11, "bell", *RIGHT)),
    "solo1": None,
}


def make_toy_duets(folder: Path, split: str = "test") -> Manifest:
    """Clips of 12 s; the picture of second s is of shade 20 s all over; a shard a clip."""
    shards = {}
    for number, (clip_id, labels) in enumerate(LABELS.items()):
        row = IndexRow(
            clip_id=clip_id,
            recording=clip_id,
            media_path="",
            labels=labels,
            split=split,
            nominal_seconds=SECONDS,
            boxes=BOXES.get(clip_id),
        )
        clip = Clip(
            audio=duet_audio(clip_id),
            pictures=tuple(to_jpeg(Image.new("RGB", (40, 30), (20 * s,) * 3), 30) for s in range(SECONDS)),
            picture_seconds=tuple(float(second) for second in range(SECONDS)),
            duration_seconds=SECONDS,
            source_sha256="",
        )
        shards[f"{split}-{number:05d}"] = [(make_index([row], CLASSES).to_pylist()[0], clip)]
    return write_shards(folder, shards, CLASSES)


def duet_audio(clip_id: str) -> np.ndarray:
    """int16 [12000]; the end of solo0, from 9 s on, is silent."""
    audio = np.random.default_rng(list(LABELS).index(clip_id)).integers(-9000, 9000, SECONDS * RATE).astype("<i2")
    if clip_id == "solo0":
        audio[9 * RATE :] = 0
    return audio


WHOLE = Mixing(
    arrangement="whole",
    sample_rate_hz=RATE,
    segment_samples=3000,
    pictures_per_source=1,
    picture_side=20,
    window_shards=1,
)
