"""The embedded corpus: a VGG-Sound-like data set made on the spot, for a machine with no data.

Sampled instruments (of the General MIDI SoundFont in the pretty_midi wheel, played by symusic) play seeded random
melodies in synthetic rooms, each with its instrument drawn on a cluttered background. A training clip is cut every
second: another drawing of the instrument, before another background. A test clip is one take. The layout is the public
one, so what reads VGG-Sound and VGG-SS reads this.

Test clips share no random draw with training clips; the recorded samples, scale, tonic, tempo, reverberation
time, drawings of each instrument, kinds of background and of clutter come from pools that training never uses.
What both splits do share: the register, the rhythms, the ranges of dynamics, detuning, vibrato, body, band, level
and noise; how drawings are filled and edged, hands, the ranges of colours (the same for every class), proportions,
point of view and size.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.codec.context import Flags
from numpy.typing import NDArray
from PIL import Image

from cocktail.types import UsageError
from pipelines.embedded.drawings.classes import DRAWINGS
from pipelines.embedded.music import (
    CLIP_SECONDS,
    INSTRUMENTS,
    SAMPLE_RATE_HZ,
    Music,
    draw_music,
    perform,
)
from pipelines.embedded.pictures import BACKGROUNDS, FRAMES_PER_SECOND, HEIGHT, WIDTH, Corners, draw_frames
from pipelines.embedded.soundfont import prepare_soundfont
from pipelines.progress import ClipProgress

_RECIPE_VERSION = 6
"""Version to be raised when the same settings give other clips than before."""
MARKER = "corpus.json"
"""File that says what corpus a folder holds."""
TAKES = {"train": CLIP_SECONDS, "test": 1}
"""Takes of a clip by split. A network that begins with random weights takes some hundred pictures a class to learn
what shapes have in common, and learns thirty by heart."""
_DISTRACTORS = {"train": 0.25, "test": 0.5}
"""Share of takes, by split, with a silent instrument beside the one that is heard."""
_SPLITS = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class EmbeddedCorpus:
    """Choice of a corpus. A clip depends on the seed, its class, its split and its number alone."""

    seed: int
    train_clips_per_class: int
    test_clips_per_class: int
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.classes or len(set(self.classes) & set(INSTRUMENTS)) < len(self.classes):
            raise UsageError(
                f"classes of the embedded corpus are {self.classes}; give different ones out of {list(INSTRUMENTS)}"
            )
        if min(self.seed, self.train_clips_per_class, self.test_clips_per_class) < 0:
            raise UsageError(f"seed and clips per class of the embedded corpus must not be negative: {self}")


@dataclass(frozen=True, kw_only=True)
class Take:
    """What is seen between two cuts, beside the instrument that is heard."""

    background: str
    distractor: str | None
    """Label of the silent instrument in the picture, if there is one; it may be of a class that is never heard."""


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """Decisions about one clip, taken before it is played and drawn."""

    clip_id: str
    """11 characters, like a YouTube id."""
    start_second: int
    """Second of a longer video at which the clip is said to begin."""
    label: str
    split: str
    music: Music
    takes: tuple[Take, ...]
    """What is seen, one after the other, each for as long."""
    entropy: tuple[int, ...]
    """Seed, class, split and number: what every random draw for the clip follows from."""

    @property
    def name(self) -> str:
        """Name that VGG-Sound gives the clip's file, without extension."""
        return f"{self.clip_id}_{self.start_second:06d}"

    def rng(self, purpose: Literal["sound", "picture"]) -> np.random.Generator:
        """A fresh generator for one step of making the clip."""
        return np.random.default_rng([*self.entropy, 1 if purpose == "sound" else 2])

    def draw(self) -> tuple[list[Image.Image], Corners]:
        """Its frames, and the box of the instrument that is heard in the middle one."""
        num_frames = CLIP_SECONDS * FRAMES_PER_SECOND
        length, rng = num_frames // len(self.takes), self.rng("picture")
        number, rests_in = divmod(num_frames // 2, length)
        drawn = [
            draw_frames(
                self.label,
                take.distractor,
                take.background,
                length,
                rng,
                split=self.split,
                rests_in=rests_in if index == number else None,
            )
            for index, take in enumerate(self.takes)
        ]
        return [frame for frames, _ in drawn for frame in frames], drawn[number][1]


def make_embedded_corpus(
    folder: str | Path,
    *,
    seed: int = 0,
    train_clips_per_class: int = 30,
    test_clips_per_class: int = 6,
    classes: tuple[str, ...] = tuple(INSTRUMENTS),
) -> Path:
    """Make the corpus in a new folder, or find it there: returns the folder.

    It holds `vggsound.csv` (id, start second, label, split; no header), `videos/<id>_<start>.mp4`, `vggss.json`
    (boxes of the sounding objects of the test clips at 5 s, as fractions of width and height), `boxes.json`
    (the same for every clip) and `corpus.json` (settings and counts). The folder appears complete or not at
    all. The same settings give the same files on the same machine.

    Raises UsageError if the folder holds anything else, or the `demo` packages are missing.
    """
    settings = EmbeddedCorpus(
        seed=seed,
        train_clips_per_class=train_clips_per_class,
        test_clips_per_class=test_clips_per_class,
        classes=classes,
    )
    folder = Path(folder).expanduser().absolute()
    marker = {"recipe_version": _RECIPE_VERSION, **json.loads(json.dumps(asdict(settings)))}
    if folder.exists():
        _require_marker(folder, marker)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        unfinished = Path(temporary) / folder.name
        _write_corpus(unfinished, plan_clips(settings), prepare_soundfont(Path(temporary)), marker)
        try:
            unfinished.rename(folder)
        except OSError:
            # Another process may have been first; its corpus is as good.
            if not folder.exists():
                raise
            _require_marker(folder, marker)
    return folder


def plan_clips(settings: EmbeddedCorpus) -> list[ClipPlan]:
    """The clips of a corpus, sorted by id."""
    counts = {"train": settings.train_clips_per_class, "test": settings.test_clips_per_class}
    return sorted(
        (
            _plan_clip(settings.seed, label, split, index)
            for label in settings.classes
            for split in _SPLITS
            for index in range(counts[split])
        ),
        key=lambda plan: plan.clip_id,
    )


def _plan_clip(seed: int, label: str, split: str, index: int) -> ClipPlan:
    labels = list(INSTRUMENTS)
    entropy = (seed, labels.index(label), _SPLITS.index(split), index)
    rng = np.random.default_rng(entropy)
    others = [other for other in DRAWINGS if other != label]
    digest = hashlib.sha256(repr(entropy).encode()).digest()
    return ClipPlan(
        clip_id=base64.urlsafe_b64encode(digest).decode()[:11],
        start_second=int(rng.integers(300)),
        label=label,
        split=split,
        music=draw_music(label, split, index, rng),
        takes=tuple(
            Take(
                background=str(rng.choice(BACKGROUNDS[split])),
                distractor=str(rng.choice(others)) if rng.random() < _DISTRACTORS[split] else None,
            )
            for _ in range(TAKES[split])
        ),
        entropy=entropy,
    )


def _require_marker(folder: Path, marker: dict[str, object]) -> None:
    """Raise UsageError unless the folder holds the corpus that a marker describes."""
    mend = "give a folder that does not exist yet, or remove this one"
    try:
        present = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{folder} is not an embedded corpus (it has no {MARKER}): {mend}") from None
    except ValueError as error:
        raise UsageError(f"{folder / MARKER} cannot be read: {error}; {mend}") from error
    different = [name for name, value in marker.items() if not isinstance(present, dict) or present.get(name) != value]
    if different:
        raise UsageError(f"{folder} holds an embedded corpus with another {', '.join(different)}: {mend}")


def _write_corpus(folder: Path, plans: list[ClipPlan], soundfont: Path, marker: dict[str, object]) -> None:
    """Write all files of a corpus into a new folder, the marker last."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    # Threads suffice: the encoders, Fourier transforms and drawing let go of the interpreter.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        boxes = pool.map(lambda plan: _write_clip(videos / f"{plan.name}.mp4", plan, soundfont), plans)
        truth = []
        with ClipProgress(len(plans), "made") as progress:
            for plan, box in zip(plans, boxes, strict=True):
                truth.append({"file": plan.name, "class": plan.label, "bbox": [box]})
                progress.advance(1, 0)
    with (folder / "vggsound.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerows([plan.clip_id, plan.start_second, plan.label, plan.split] for plan in plans)
    test_names = {plan.name for plan in plans if plan.split == "test"}
    _write_json(folder / "boxes.json", truth)
    _write_json(folder / "vggss.json", [item for item in truth if item["file"] in test_names])
    num_clips = {split: sum(plan.split == split for plan in plans) for split in _SPLITS}
    _write_json(folder / MARKER, {**marker, "num_clips": num_clips})


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_clip(path: Path, plan: ClipPlan, soundfont: Path) -> Corners:
    """Play, draw and encode one clip; returns the box of its sounding object."""
    sound = perform(plan.label, plan.music, soundfont, plan.rng("sound"))
    frames, box = plan.draw()
    _encode(path, frames, sound)
    return box


def _encode(path: Path, frames: list[Image.Image], sound: NDArray[np.float32]) -> None:
    """An MP4 of H.264 and AAC whose bytes depend on its content and the encoders alone.

    `sound` is [1 or 2, T] at SAMPLE_RATE_HZ, as long as the frames.
    """
    # MPEG-4 part 2 where FFmpeg was built without x264.
    codec, quickly = "mpeg4", {}
    if "libx264" in av.codecs_available:
        codec, quickly = "libx264", {"preset": "veryfast"}
    layout = "mono" if len(sound) == 1 else "stereo"
    # bitexact leaves out the encoder's version and the time of writing.
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        video = container.add_stream(codec, rate=FRAMES_PER_SECOND, options=quickly)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.bit_rate = 250_000
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout=layout)
        # At a third less, coded mallet strokes overshoot by a quarter.
        audio.bit_rate = 96_000 * len(sound)
        for stream in (video, audio):
            stream.codec_context.flags |= Flags.bitexact
            stream.codec_context.thread_count = 1
        chunk = SAMPLE_RATE_HZ // FRAMES_PER_SECOND
        # In turn, so that a reader finds picture and sound of one moment together.
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = index, Fraction(1, FRAMES_PER_SECOND)
            container.mux(video.encode(frame))
            samples = np.ascontiguousarray(sound[:, index * chunk : (index + 1) * chunk])
            part = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
            part.sample_rate, part.pts, part.time_base = SAMPLE_RATE_HZ, index * chunk, Fraction(1, SAMPLE_RATE_HZ)
            container.mux(audio.encode(part))
        for stream in (video, audio):
            container.mux(stream.encode(None))
