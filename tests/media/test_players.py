"""What FFmpeg's own programs play comes out: as much sound, and the picture that they show at its middle.

The files are made by `ffmpeg` in a table of containers, codecs and ways to cut; without it these tests are skipped.
"""

import io
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocktail.media.clips import decode_clip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed"),
]
FPS = 25
SOURCE_SECONDS = 12


def ffmpeg(*arguments: object) -> bytes:
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass(frozen=True)
class Kind:
    """A container with codecs of picture and sound."""

    ending: str
    video: str
    audio: str

    def __str__(self) -> str:
        return f"{self.ending}-{self.video}-{self.audio}"


KINDS = [
    Kind("mp4", "libx264", "aac"),
    Kind("mp4", "libx265", "aac"),
    Kind("mp4", "libsvtav1", "aac"),
    Kind("mp4", "mpeg4", "libmp3lame"),
    Kind("mov", "libx264", "pcm_s16le"),
    Kind("mkv", "libx264", "aac"),
    Kind("mkv", "libvpx-vp9", "libopus"),
    Kind("mkv", "libsvtav1", "libopus"),
    Kind("mkv", "mpeg2video", "flac"),
    Kind("webm", "libvpx", "libvorbis"),
    Kind("ts", "libx264", "aac"),
    Kind("ts", "libx265", "aac"),
    Kind("ts", "mpeg2video", "mp2"),
    Kind("mpg", "mpeg2video", "mp2"),
    Kind("flv", "libx264", "aac"),
    Kind("avi", "mpeg4", "libmp3lame"),
    Kind("avi", "libx264", "libmp3lame"),
    Kind("wmv", "wmv2", "wmav2"),
]
CUTS = {
    "whole": ([], []),
    "section": (["-ss", "4.3", "-t", "5"], []),
    "sound as asked": None,
    "late": ([], ["-output_ts_offset", "7"]),
    "sound shorter": None,
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Makes a file of a kind: pictures whose brightness is their number, and noise that comes and goes."""
    folder = tmp_path_factory.mktemp("sources")

    def make(kind: Kind) -> Path:
        path = folder / f"{kind}.{kind.ending}"
        if not path.exists():
            pictures = f"color=gray:s=96x64:r={FPS}:d={SOURCE_SECONDS},geq=lum='20+mod(N*7\\,200)':cb=128:cr=128"
            sound = f"anoisesrc=r=44100:a=0.3:d={SOURCE_SECONDS},tremolo=f=0.7"
            inputs = ["-f", "lavfi", "-i", pictures, "-f", "lavfi", "-i", sound]
            ffmpeg(*inputs, "-c:v", kind.video, "-g", "60", "-pix_fmt", "yuv420p", "-c:a", kind.audio, path)
        return path

    return make


def cut(source: Path, target: Path, how: str) -> None:
    if how == "sound as asked":  # the picture from the keyframe before, as two tracks that are cut apart
        sides = ["-ss", "4.3", "-t", "5", "-i", source]
        ffmpeg(*sides, *sides, "-map", "0:v", "-map", "1:a", "-c", "copy", target)
    elif how == "sound shorter":
        ffmpeg("-i", source, "-t", "7", "-i", source, "-map", "0:v", "-map", "1:a", "-c", "copy", target)
    else:
        before, after = CUTS[how]
        ffmpeg(*before, "-i", source, "-c", "copy", *after, target)


def probe(path: Path, track: str) -> list[float]:
    """When each frame of a track is played, as ffprobe says."""
    command = ["ffprobe", "-v", "error", "-select_streams", track, "-show_frames", "-of", "json"]
    shown = subprocess.run(
        [*command, "-show_entries", "frame=best_effort_timestamp_time", str(path)], capture_output=True, check=True
    )
    frames = json.loads(shown.stdout)["frames"]
    return [float(frame.get("best_effort_timestamp_time", "nan")) for frame in frames]


def brightness(pixels) -> float:
    return float(np.asarray(pixels, float).mean())


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_sound_and_picture_are_those_that_ffmpeg_plays(sources, tmp_path, kind, how):
    path = tmp_path / f"cut.{kind.ending}"
    cut(sources(kind), path, how)
    samples = len(ffmpeg("-i", path, "-map", "0:a:0", "-ac", "1", "-f", "s16le", "-")) // 2
    rate = 48000 if kind.audio == "libopus" else 44100
    frames = np.frombuffer(
        ffmpeg("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
        np.uint8,
    ).reshape(-1, 64 * 96 * 3)
    pictures, sounds = probe(path, "v:0"), probe(path, "a:0")
    pictures = pictures[len(pictures) - len(frames) :]
    clip = decode_clip(path, sample_rate_hz=rate, num_frames=1)
    assert abs(clip.duration_seconds - samples / rate) < 0.03
    middle = np.nanmin(sounds) + clip.duration_seconds / 2
    times = np.asarray(pictures)
    before = np.nanmax(times[times <= middle + 1e-6], initial=np.nanmin(times))
    after = np.nanmin(times[times > middle + 1e-6], initial=np.inf)
    meant = after if after - before < 0.1 and after - middle < middle - before else before
    assert abs(clip.picture_seconds[0] + np.nanmin(sounds) - meant) < 0.021
    near = np.abs(times - meant) < 0.045
    found = brightness(Image.open(io.BytesIO(clip.pictures[0])).convert("RGB"))
    assert min(abs(found - brightness(frame)) for frame in frames[near]) < 4


SOUNDS = {
    "mp3": ["-c:a", "libmp3lame"],
    "mp3, no length": ["-c:a", "libmp3lame", "-write_xing", "0", "-id3v2_version", "0"],
    "mp3, varying": ["-c:a", "libmp3lame", "-q:a", "2", "-write_xing", "0"],
    "aac": ["-c:a", "aac"],
    "ogg": ["-c:a", "libvorbis"],
    "opus": ["-c:a", "libopus"],
    "flac": [],
    "wav": [],
    "w64": [],
    "aiff": [],
    "au": [],
    "m4a": ["-c:a", "aac"],
}


@pytest.mark.parametrize("how", ["whole", "section", "streamed"])
@pytest.mark.parametrize("name", SOUNDS)
def test_sound_alone_is_as_long_as_ffmpeg_plays_it(tmp_path, name, how):
    ending = name.partition(",")[0]
    if how == "streamed" and ending in ("w64", "aiff"):
        pytest.skip("what ffmpeg streams so, it does not read itself")
    whole, path = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    loudness = "anoisesrc=r=44100:a=0.5:d=6,tremolo=f=0.2:d=1"
    ffmpeg("-f", "lavfi", "-i", loudness, *SOUNDS[name], whole)
    if how == "streamed" and ending != "m4a":
        form = {"aac": "adts", "opus": "ogg"}.get(ending, ending)
        path.write_bytes(ffmpeg("-i", whole, *SOUNDS[name], "-f", form, "-"))
    elif how == "section":
        ffmpeg("-ss", "1.7", "-t", "2.5", "-i", whole, "-c", "copy", path)
    else:
        path = whole
    rate = 48000 if name == "opus" else 44100
    samples = len(ffmpeg("-i", path, "-ac", "1", "-f", "s16le", "-")) // 2
    clip = decode_clip(path, sample_rate_hz=rate, num_frames=0)
    assert abs(clip.duration_seconds - samples / rate) < 0.03
