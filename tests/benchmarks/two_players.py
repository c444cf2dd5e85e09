"""Videos of two players of which one is in view, through `cocktail separate` with an AVSA-Sep model.

    python tests/benchmarks/two_players.py MODEL --csv vggsound.csv --videos FOLDER [--pairs 18] [--keep FOLDER]

Takes test clips in VGG-Sound's layout, as the embedded corpus is (OUTPUT/embedded/corpus): two of different classes,
each clip once, stand side by side, and the right one is cropped away; both sound. What is in view is a stem, and each
class that is heard and not seen is another. Prints with 95 % intervals over recordings the SDR of what is in view, and
of the player who is not by the stem of its class, the mixture where there is none; beside both the mixture. And how
often the class that is not in view has a stem, the one in view a second one, and how many stems there are of classes
that do not play. `--keep` leaves the videos, and the folder and page of each, to look at and to listen to.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import av
import numpy as np
import torch
import tyro

from cocktail.inference import load
from cocktail.inference.loaded import LoadedModel
from cocktail.media.recordings import FileRecording, decode_whole
from cocktail.metrics.bss_eval import bss_eval
from cocktail.metrics.intervals import Interval, Recordings
from cocktail.metrics.separation import replace_silent

MOST_VALUES, FRAMES_PER_SECOND = 60_000_000, 5


@dataclass(frozen=True, kw_only=True)
class Arguments:
    model: Annotated[str, tyro.conf.Positional]
    """Model as `cocktail separate --model` takes it."""
    csv: Path
    """vggsound.csv: id, second, label, split."""
    videos: Path
    """Folder of <id>_<second, six digits>.mp4."""
    pairs: int = 18
    """Videos to make."""
    keep: Path | None = None
    """Folder for the videos and what is made of them."""
    seed: int = 0
    """Draws who plays with whom."""


class Player(NamedTuple):
    """A test clip."""

    recording: str
    label: str
    path: Path


class Found(NamedTuple):
    """What is made of a video."""

    in_view: float
    """SDR in dB."""
    not_in_view: float
    mixture: tuple[float, float]
    """The same of the mixture."""
    is_named: bool
    """Whether the class that is not in view has a stem."""
    is_twofold: bool
    """Whether the class in view has a stem of its name, too."""
    num_wrong: int
    """Stems of classes that do not play."""


def drawn_pairs(arguments: Arguments) -> Iterator[tuple[Player, Player]]:
    """Players of different classes; each in one pair at most."""
    with arguments.csv.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row[3] == "test"]
    waiting = [
        Player(name, label, arguments.videos / f"{name}_{int(second):06d}.mp4") for name, second, label, _ in rows
    ]
    generator = np.random.default_rng(arguments.seed)
    waiting = [waiting[place] for place in generator.permutation(len(waiting))]
    for _ in range(arguments.pairs):
        if not waiting:
            return
        first = waiting.pop()
        partner = next((each for each in waiting if each.label != first.label), None)
        if partner is None:
            return
        waiting.remove(partner)
        yield first, partner


def sound_of(player: Player) -> tuple[np.ndarray, int]:
    """Mono sound [T] and its rate in Hz."""
    found = decode_whole(player.path, MOST_VALUES)
    assert found is not None, f"{player.path} is longer than clips are"
    return found[0].mean(axis=0), found[1]


def write_video(path: Path, player: Player, sound: np.ndarray, rate_hz: int) -> None:
    """What a player looks like, with a sound that is kept as it is."""
    times = np.arange(int(len(sound) / rate_hz * FRAMES_PER_SECOND)) / FRAMES_PER_SECOND
    with av.open(str(path), "w") as made:
        video = made.add_stream("mpeg4", rate=FRAMES_PER_SECOND)
        audio = made.add_stream("pcm_s16le", rate=rate_hz, layout="mono")
        for number, picture in enumerate(FileRecording(player.path).pictures_at(times.tolist())):
            if not number:
                video.width, video.height, video.pix_fmt = picture.width, picture.height, "yuv420p"
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, Fraction(1, FRAMES_PER_SECOND)
            made.mux(video.encode(frame))
        made.mux(video.encode(None))
        whole = np.rint(sound * 32767).astype(np.int16)
        for start in range(0, len(whole), 4096):
            piece = av.AudioFrame.from_ndarray(whole[None, start : start + 4096], "s16", "mono")
            piece.sample_rate, piece.pts, piece.time_base = rate_hz, start, Fraction(1, rate_hz)
            made.mux(audio.encode(piece))
        made.mux(audio.encode(None))


def found_in(model: LoadedModel, folder: Path, left: Player, right: Player) -> Found:
    """Make a video of two players and separate it."""
    (own, rate_hz), (other, other_rate_hz) = sound_of(left), sound_of(right)
    assert rate_hz == other_rate_hz, f"{left.path} and {right.path} have other rates"
    length = min(len(own), len(other))
    references = torch.from_numpy(np.stack([own[:length], other[:length]])).float() / 2
    path = folder / f"{left.recording} with {right.recording}.mkv"
    write_video(path, left, references.sum(dim=0).numpy(), rate_hz)
    found = model.separate(path)
    mixture = torch.from_numpy(found.samples[0])
    stems = {name: torch.from_numpy(stem[0]) for name, stem in zip(found.names, found.stems, strict=True)}
    in_view = stems.pop(found.names[0])
    length = min(length, len(mixture))
    estimates = torch.stack([in_view, stems.get(right.label, mixture)])[None, :, :length]
    both = torch.cat([replace_silent(estimates, mixture[None, :length])[0], mixture.expand(1, 2, -1)[..., :length]])
    (sdr, of_mixture) = bss_eval(references[None, :, :length].expand(2, -1, -1), both).sdr.tolist()
    return Found(
        in_view=sdr[0],
        not_in_view=sdr[1],
        mixture=(of_mixture[0], of_mixture[1]),
        is_named=right.label in stems,
        is_twofold=left.label in stems,
        num_wrong=len(stems.keys() - {left.label, right.label}),
    )


def cell(interval: Interval | None) -> str:
    assert interval is not None
    return f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def main(arguments: Arguments) -> None:
    torch.set_num_threads(1)
    model = load(arguments.model, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        pairs = list(drawn_pairs(arguments))
        found = [found_in(model, folder, *pair) for pair in pairs]
        for left, right in pairs if arguments.keep else ():
            video = folder / f"{left.recording} with {right.recording}.mkv"
            model.separate_file(video, video.with_suffix(""))
    recordings = Recordings([[left.recording, right.recording] for left, right in pairs])
    print(f"{len(pairs)} videos, seed {arguments.seed}, torch {torch.__version__}")
    print("| SDR in dB | separated | mixture |\n|---|---:|---:|")
    for place, (name, score) in enumerate((("in view", "in_view"), ("not in view", "not_in_view"))):
        own = np.array([getattr(each, score) for each in found])
        control = np.array([each.mixture[place] for each in found])
        print(f"| {name} | {cell(recordings.interval(own))} | {cell(recordings.interval(control))} |")
    for words, values in (
        ("the class that is not in view has a stem", [each.is_named for each in found]),
        ("the class in view has a second stem", [each.is_twofold for each in found]),
    ):
        print(f"{words}: {cell(recordings.interval_of_share(np.array(values, float)))} of the videos")
    print(f"stems of classes that do not play: {sum(each.num_wrong for each in found)} in {len(found)} videos")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
