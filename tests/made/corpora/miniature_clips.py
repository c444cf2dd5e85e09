"""A VGG-Sound of a few kilobytes: real media files, one for every kind of damage, in the released layout."""

from __future__ import annotations

import csv
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

FPS = 10
RATE = 22050


def gray_level(frame: int) -> int:
    """The luminance of a picture of a miniature clip: tells which frame it is."""
    return 40 + 5 * frame


def tone(seconds: float, hertz: float = 440.0, level: float = 0.3, rate: int = RATE) -> np.ndarray:
    """float32 [T]."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_clip(
    path: Path | str | bytes,
    *,
    seconds: float = 1.5,
    sound: np.ndarray | None = None,
    has_sound: bool = True,
    has_pictures: bool = True,
    size: tuple[int, int] = (64, 48),
    audio_codec: str = "aac",
    rotation: int = 0,
    title: str | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """An MP4 (or what the file's ending says) with a tone, or float32 [2, T] `sound`, and gray pictures.

    Pictures have B-frames, also before a keyframe, and a keyframe every twelve. They last for `seconds`,
    whatever the sound does.
    """
    with av.open(os.fsdecode(path), "w", options=options or {}) as container:
        if title is not None:
            container.metadata["title"] = title
        video: Any = container.add_stream("libx264", rate=FPS) if has_pictures else None
        audio: Any = container.add_stream(audio_codec, rate=RATE, layout="stereo") if has_sound else None
        if video is not None:
            video.width, video.height = size
            video.pix_fmt, video.time_base = "yuv420p", Fraction(1, FPS)
            video.options = {
                "bf": "2",
                "g": "12",
                "crf": "10",
                "x264-params": "open-gop=1:scenecut=0:b-adapt=0:threads=1",
            }
            if rotation:
                video.set_display_rotation(rotation)
            for number in range(round(seconds * FPS)):
                picture = np.full((size[1], size[0], 3), gray_level(number), np.uint8)
                picture[:, : size[0] // 2] //= 2  # the left half is darker: tells a turned picture
                frame = av.VideoFrame.from_ndarray(picture, "rgb24")
                frame.pts = number
                container.mux(video.encode(frame))
            container.mux(video.encode())
        if audio is not None:
            samples = np.stack([tone(seconds)] * 2) if sound is None else sound
            encoded = samples if audio_codec == "aac" else np.rint(samples * 32767).astype(np.int16).T.reshape(1, -1)
            form = "fltp" if audio_codec == "aac" else "s16"
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(encoded), form, layout="stereo")
            frame.rate, frame.pts = RATE, 0
            container.mux(audio.encode(frame))
            container.mux(audio.encode())


def make_corpus(folder: Path, *, num_good: int = 10) -> dict[str, str]:
    """`folder`/vggsound.csv and `folder`/videos with good clips and two of every damage.

    Returns the reason that each bad clip must be quarantined with; a duplicate's id is that of a good clip.
    """
    videos = folder / "videos"
    videos.mkdir(parents=True)
    rows = [(f"good{n:07d}", n, ("bird chirping, tweeting", "thunder")[n % 2], "train") for n in range(num_good)]
    rows = [(*row[:3], "test" if number % 5 == 0 else "train") for number, row in enumerate(rows)]
    for number, row in enumerate(rows):
        write_clip(videos / f"{row[0]}_{row[1]:06d}.mp4", sound=np.stack([tone(1.5, 200 + 50 * number)] * 2))
    reasons: dict[str, str] = {}
    for number in range(2):
        for name, reason in _DAMAGE.items():
            row = (f"{name}-{number}", 30, "donkey, ass braying", ("train", "test")[number])
            rows.append(row)
            reasons[f"{row[0]}_000030"] = reason
            _write_damaged(videos, f"{row[0]}_000030", name)
        rows.append(rows[number])
        reasons[f"{rows[number][0]}_{rows[number][1]:06d}"] = "duplicate row"
    with (folder / "vggsound.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return reasons


_DAMAGE = {
    "cut": "truncated",
    "cut_late": "truncated",
    "zero": "empty file",
    "mute": "no audio track",
    "blind": "no video track",
    "gone": "missing file",
    "short": "too short",
    "html": "not media",
    "silent": "silent",
    "name": "undecodable file name",
}


def _write_damaged(videos: Path, clip_id: str, damage: str) -> None:
    path = videos / f"{clip_id}.mp4"
    if damage == "zero":
        path.touch()
    elif damage == "html":
        path.write_text("<!DOCTYPE html><html><title>429 Too Many Requests</title></html>")
    elif damage == "name":
        write_clip(path)
        os.rename(os.fsencode(path), os.fsencode(videos / clip_id) + b"_caf\xe9.mp4")  # noqa: PTH104
    elif damage == "mute":
        write_clip(path, has_sound=False)
    elif damage == "blind":
        write_clip(path, has_pictures=False)
    elif damage == "short":
        write_clip(path, sound=np.stack([tone(0.6)] * 2))
    elif damage == "silent":
        write_clip(path, sound=np.zeros((2, RATE * 3 // 2), np.float32))
    elif damage != "gone":
        write_clip(path, seconds=4.0, options={"movflags": "faststart"} if damage == "cut_late" else {})
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
