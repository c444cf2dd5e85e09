"""Duets made of solos: two players in one picture, both sounds added, in MUSIC's layout, for co-segmentation.

    python tests/benchmarks/made_duets.py --csv vggsound.csv --videos FOLDER --output MUSIC [--duets 90]
    python jobs/shard_music.py --root MUSIC --solo MUSIC/solo.json --duet MUSIC/duet.json --split csv \
        --train-list MUSIC/train.csv --test-list MUSIC/test.csv --frames-per-second 1 --min-seconds 5 --shards SHARDS
    python jobs/cosegmentation.py music --data SHARDS --preset demo --mixing.several-classes
    python jobs/cosegmentation.py music --data SHARDS --preset demo --mixing.no-several-classes   # solos alone

Takes clips in VGG-Sound's layout, as the embedded corpus is (OUTPUT/embedded/corpus), and writes all of them as solos,
sound as wav and a picture a second. Duets are of two training clips of different classes, each clip as often as others:
both pictures at half their size side by side, their outer rows repeated above and below, and the mean of both sounds.
Test clips are in no duet.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "platform")]

import numpy as np
import soundfile
import tyro
from PIL import Image

from cocktail.media.recordings import FileRecording, decode_whole

MOST_VALUES = 60_000_000


@dataclass(frozen=True, kw_only=True)
class Arguments:
    csv: Path
    """vggsound.csv: id, second, label, split."""
    videos: Path
    """Folder of <id>_<second, six digits>.mp4."""
    output: Path
    """Folder for audio/, frames/, solo.json, duet.json, train.csv and test.csv."""
    duets: int = 90
    """Duets to make of training clips."""
    seed: int = 0


class Solo(NamedTuple):
    """A clip as a player's video."""

    youtube_id: str
    instrument: str
    split: str
    path: Path


def read_solos(arguments: Arguments) -> list[Solo]:
    """The clips of the csv, whose classes become words of MUSIC's kind: `playing violin, fiddle` is `violin`."""
    with arguments.csv.open(newline="") as file:
        rows = list(csv.reader(file))
    return [
        Solo(
            youtube_id=youtube_id,
            instrument=label.removeprefix("playing ").partition(",")[0].replace(" ", "_"),
            split=split,
            path=arguments.videos / f"{youtube_id}_{int(second):06d}.mp4",
        )
        for youtube_id, second, label, split in rows
    ]


def read_clip(path: Path) -> tuple[np.ndarray, int, list[Image.Image]]:
    """Mono sound [T], its rate in Hz, and a picture a second."""
    found = decode_whole(path, MOST_VALUES)
    assert found is not None, f"{path} is longer than clips are"
    sound, rate_hz = found
    seconds = [float(second) for second in range(int(sound.shape[1] / rate_hz))]
    return sound.mean(axis=0), rate_hz, list(FileRecording(path).pictures_at(seconds))


def write_video(root: Path, category: str, video: str, sound: np.ndarray, rate: int, pictures: Sequence[Image.Image]):
    """A video as MUSIC's extraction leaves it: its sound, and numbered frames."""
    folder = root / "audio" / category
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{video}.wav", sound, rate, subtype="PCM_16")
    frames = root / "frames" / category / f"{video}.mp4"
    frames.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, start=1):
        picture.save(frames / f"{number:06d}.jpg", quality=92)


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Both at half their size, in a picture of the size of the first."""
    width, height = left.width // 2, left.height // 2
    both = np.concatenate([np.asarray(each.resize((width, height))) for each in (left, right)], axis=1)
    above = (left.height - height) // 2
    return Image.fromarray(np.pad(both, ((above, left.height - height - above), (0, 0), (0, 0)), mode="edge"))


def drawn_pairs(solos: Sequence[Solo], count: int, generator: np.random.Generator) -> Iterator[tuple[Solo, Solo]]:
    """Pairs of different instruments; no clip is in two more than another, as far as instruments allow."""
    while count:
        waiting = [solos[place] for place in generator.permutation(len(solos))]
        while waiting and count:
            first = waiting.pop()
            partner = next((each for each in waiting if each.instrument != first.instrument), None)
            if partner is None:
                break
            waiting.remove(partner)
            count -= 1
            yield first, partner


def main(arguments: Arguments) -> None:
    root = arguments.output
    solos = read_solos(arguments)
    videos: dict[str, dict[str, list[str]]] = {"solo": defaultdict(list), "duet": defaultdict(list)}
    lists: dict[str, list[str]] = {"train": [], "test": []}

    def add(kind: str, category: str, video: str, split: str, num_frames: int) -> None:
        videos[kind][category].append(video)
        lists[split].append(f"audio/{category}/{video}.wav,frames/{category}/{video}.mp4,{num_frames}")

    for solo in solos:
        sound, rate, pictures = read_clip(solo.path)
        write_video(root, solo.instrument, solo.youtube_id, sound, rate, pictures)
        add("solo", solo.instrument, solo.youtube_id, solo.split, len(pictures))
    training = [solo for solo in solos if solo.split == "train"]
    pairs = drawn_pairs(training, arguments.duets, np.random.default_rng(arguments.seed))
    for number, (left, right) in enumerate(pairs):
        (sound, rate, pictures), (other, other_rate, others) = (read_clip(each.path) for each in (left, right))
        assert rate == other_rate, f"{left.path} and {right.path} have other rates"
        length = min(len(sound), len(other))
        both = [side_by_side(*each) for each in zip(pictures, others, strict=False)]
        category = " ".join(sorted((left.instrument, right.instrument)))
        write_video(root, category, f"duet{number:07d}", (sound[:length] + other[:length]) / 2, rate, both)
        add("duet", category, f"duet{number:07d}", "train", len(both))
    for kind, of_kind in videos.items():
        (root / f"{kind}.json").write_text(json.dumps({"version": 1.0, "videos": of_kind}, indent=1) + "\n")
    for split, rows in lists.items():
        (root / f"{split}.csv").write_text("\n".join(rows) + "\n")
    print(f"{len(solos)} solos and {arguments.duets} duets in {root}")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
