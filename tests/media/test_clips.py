"""Clips decode to the sound and the pictures that were put in; every damage has its own reason."""

import errno
import hashlib
import io
import os
import pickle
import wave
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
from PIL import Image

from cocktail.media.bad_clips import BadClip, Reason
from cocktail.media.clips import decode_clip
from cocktail.types import UsageError
from tests.made.corpora.miniature_clips import FPS, RATE, gray_level, make_corpus, tone, write_clip


def decode(path, *, sample_rate_hz=11025, num_frames=1, **changes):
    return decode_clip(path, sample_rate_hz=sample_rate_hz, num_frames=num_frames, **changes)


def refusal(path, **changes):
    with pytest.raises(BadClip) as caught:
        decode(path, **changes)
    return caught.value.reason


def write_sound_with_a_gap(path, gap_seconds):
    """Two seconds of sound, the second of which starts late; nothing is cut off, and every packet decodes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start_seconds in (0.0, 1.0 + gap_seconds):
            samples = np.rint(tone(1.0) * 32767).astype(np.int16)[np.newaxis]
            frame = av.AudioFrame.from_ndarray(samples, "s16", layout="mono")
            frame.rate, frame.pts = RATE, round(start_seconds * RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def picture_level(jpeg):
    image = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")).astype(float)
    return image[:, 3 * image.shape[1] // 4].mean()


def test_sound_is_the_mean_of_the_channels_at_the_stored_rate(tmp_path):
    left, right = tone(2.0, 440.0, 0.4), tone(2.0, 1000.0, 0.2)
    write_clip(tmp_path / "a.mov", sound=np.stack([left, right]), audio_codec="pcm_s16le")
    clip = decode(tmp_path / "a.mov")
    seconds = np.arange(22050) / 11025
    expected = 0.2 * np.sin(2 * np.pi * 440 * seconds) + 0.1 * np.sin(2 * np.pi * 1000 * seconds)
    assert clip.audio.dtype == np.int16
    assert clip.audio.shape == (22050,)
    assert clip.duration_seconds == 2.0
    assert np.abs(clip.audio[500:-500] / 32768 - expected[500:-500]).max() < 1e-3  # away from the filter's edges
    assert clip.source_sha256 == hashlib.sha256((tmp_path / "a.mov").read_bytes()).hexdigest()


def test_samples_at_the_file_s_own_rate_come_out_unchanged_and_full_scale_does_not_wrap(tmp_path):
    samples = np.array([32767, -32768, 1, -1] * 11025, np.int16)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    assert np.array_equal(decode(tmp_path / "a.wav", sample_rate_hz=RATE, num_frames=0).audio, samples)
    loud = np.where(tone(2.0, 100.0) >= 0, 32767, -32768).astype(np.int16)  # overshoots when resampled
    with wave.open(str(tmp_path / "b.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(loud.tobytes())
    square = decode(tmp_path / "b.wav", num_frames=0).audio
    assert square.max() == 32767
    assert square.min() == -32768
    assert np.mean(np.sign(square) == np.sign(tone(2.0, 100.0, rate=11025))) > 0.97  # no overshoot has wrapped


def test_the_mean_is_rounded_to_the_nearest_step(tmp_path):
    pairs = np.array([[4, 3], [-4, -3], [5, 4], [1000, 1000]], np.int16)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.tile(pairs, (RATE // 2, 1)).tobytes())
    samples = decode(tmp_path / "a.wav", sample_rate_hz=RATE, num_frames=0).audio
    assert samples[:4].tolist() == [4, -4, 4, 1000]


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_pictures_are_the_frames_at_the_centres_of_equal_parts(tmp_path, num_frames):
    sound = np.stack([tone(2.0)] * 2)
    write_clip(tmp_path / "a.mov", seconds=2.0, sound=sound, audio_codec="pcm_s16le")
    clip = decode(tmp_path / "a.mov", num_frames=num_frames)
    centres = [(part + 0.5) / num_frames * 2.0 for part in range(num_frames)]
    assert len(clip.pictures) == num_frames
    for jpeg, seconds, centre in zip(clip.pictures, clip.picture_seconds, centres, strict=True):
        assert abs(seconds - centre) <= 0.5 / FPS + 1e-6
        assert abs(picture_level(jpeg) - gray_level(round(seconds * FPS))) < 2


def test_skipping_frames_that_are_not_needed_changes_no_pixel(tmp_path):
    write_clip(tmp_path / "a.mp4", seconds=2.5)
    with av.open(str(tmp_path / "a.mp4")) as container:
        plain = {round(frame.time * FPS): frame.to_image().tobytes() for frame in container.decode(video=0)}
    for seconds in np.arange(1.0, 2.5, 0.13):  # the sound's length moves its middle over keyframes and B-frames
        write_clip(tmp_path / "b.mp4", seconds=2.5, sound=np.stack([tone(2 * seconds - 1)] * 2))
        clip = decode(tmp_path / "b.mp4", num_frames=3)
        for jpeg, shown in zip(clip.pictures, clip.picture_seconds, strict=True):
            size = (64, 48)
            full = Image.frombytes("RGB", size, plain[min(round(shown * FPS), 24)])
            buffer = io.BytesIO()
            full.save(buffer, "JPEG", quality=90)
            assert buffer.getvalue() == jpeg


@pytest.mark.parametrize(("size", "expected"), [((128, 96), (43, 32)), ((40, 32), (40, 32)), ((32, 24), (32, 24))])
def test_pictures_are_shrunk_to_the_short_side_and_never_enlarged(tmp_path, size, expected):
    write_clip(tmp_path / "a.mp4", size=size)
    image = Image.open(io.BytesIO(decode(tmp_path / "a.mp4", picture_short_side=32).pictures[0]))
    assert (image.format, image.size) == ("JPEG", expected)


def test_a_picture_filmed_sideways_is_turned_upright(tmp_path):
    write_clip(tmp_path / "a.mp4", rotation=90)
    image = np.asarray(Image.open(io.BytesIO(decode(tmp_path / "a.mp4").pictures[0])).convert("L"))
    assert image.shape == (64, 48)
    assert image[48:].mean() < image[:16].mean() / 1.5  # the dark left half turned counter-clockwise: below


def test_no_picture_is_needed_where_none_is_wanted(tmp_path):
    write_clip(tmp_path / "a.mp4", has_pictures=False)
    assert decode(tmp_path / "a.mp4", num_frames=0).pictures == ()
    assert refusal(tmp_path / "a.mp4", num_frames=1) == "no video track"


def test_every_kind_of_damage_has_its_reason(tmp_path):
    reasons = make_corpus(tmp_path, num_good=2)
    index_time = {"undecodable file name", "duplicate row"}
    checked = {clip_id: reason for clip_id, reason in reasons.items() if reason not in index_time}
    assert len(checked) == 18
    assert {clip_id: refusal(tmp_path / "videos" / f"{clip_id}.mp4") for clip_id in checked} == checked
    assert set(reasons.values()) | {
        "too long",
        "too costly",
        "sample rate out of range",
        "channels cancel",
        "off scale",
        "clipped",
        "decode error",
        "not finite",
        "picture too large",
    } == set(get_args(Reason)) - {"bad picture", "bad mask", "empty truth", "incomplete mixture"}


def test_a_clip_that_declares_more_than_is_taken_is_not_decoded(tmp_path, monkeypatch):
    write_clip(tmp_path / "a.mp4", seconds=3.0)
    monkeypatch.setattr("cocktail.media.clips._decode_sound", None)
    assert refusal(tmp_path / "a.mp4", max_seconds=2.0) == "too long"


def test_sound_longer_than_its_header_declares_is_bounded_while_decoding(tmp_path, monkeypatch):
    write_clip(tmp_path / "a.mp4", seconds=4.0)
    monkeypatch.setattr("cocktail.media.clips._declared_seconds", lambda *_: None)
    assert refusal(tmp_path / "a.mp4", max_seconds=2.0) == "too long"


def test_huge_pictures_are_refused_before_decoding(tmp_path, monkeypatch):
    write_clip(tmp_path / "a.mp4")
    monkeypatch.setattr("cocktail.media.pictures.MAX_SIDE", 63)
    monkeypatch.setattr("cocktail.media.clips._decode_sound", None)
    assert refusal(tmp_path / "a.mp4") == "picture too large"


@pytest.mark.parametrize("ending", ["mkv", "wav"])
def test_containers_other_than_mp4_are_found_cut_short_too(tmp_path, ending):
    whole, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    codec = "pcm_s16le" if ending == "wav" else "aac"
    write_clip(whole, seconds=4.0, has_pictures=ending != "wav", audio_codec=codec)
    num_frames = int(ending != "wav")
    assert abs(decode(whole, num_frames=num_frames).duration_seconds - 4.0) < 0.1
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert refusal(cut, num_frames=num_frames) == "truncated"


def test_damage_in_the_middle_is_no_missing_end(tmp_path):
    write_clip(tmp_path / "a.mp4", seconds=4.0, has_pictures=False, options={"movflags": "faststart"})
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = b"\xff" * 400
    (tmp_path / "a.mp4").write_bytes(data)
    assert refusal(tmp_path / "a.mp4", num_frames=0) == "decode error"


def test_sound_with_a_gap_is_refused_since_what_follows_would_move_against_the_pictures(tmp_path):
    write_sound_with_a_gap(tmp_path / "a.mkv", 1.5)
    with pytest.raises(BadClip, match=r"decode error: 1.50 s of sound are missing on the way"):
        decode(tmp_path / "a.mkv", num_frames=0)
    write_sound_with_a_gap(tmp_path / "a.mkv", 0.4)
    assert decode(tmp_path / "a.mkv", num_frames=0).duration_seconds == 2.0


def test_a_playlist_named_like_a_clip_opens_nothing_else(tmp_path):
    write_clip(tmp_path / "secret.mp4")
    for text in (
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile secret.mp4\n",
    ):
        (tmp_path / "a.mp4").write_text(text)
        assert refusal(tmp_path / "a.mp4") == "not media"


def test_a_title_that_is_no_utf8_does_not_matter(tmp_path):
    write_clip(tmp_path / "a.mp4", title="AAAAAAAA")
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.count(b"AAAAAAAA") == 1
    (tmp_path / "a.mp4").write_bytes(data.replace(b"AAAAAAAA", b"caf\xe9\xff\xfe\xe9A"))
    assert decode(tmp_path / "a.mp4").duration_seconds > 1


class FailingFile(io.FileIO):
    """A file on a disk that fails after so many reads."""

    reads_left = 0

    def readinto(self, buffer):
        if FailingFile.reads_left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        FailingFile.reads_left -= 1
        return super().readinto(buffer)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "wav"])
def test_whichever_read_the_system_fails_it_is_no_verdict_on_the_clip(tmp_path, monkeypatch, ending):
    path = tmp_path / f"a.{ending}"
    has_pictures = ending != "wav"
    write_clip(path, seconds=3.0, has_pictures=has_pictures, audio_codec="aac" if has_pictures else "pcm_s16le")
    whole = decode(path, num_frames=int(has_pictures))
    monkeypatch.setattr(Path, "open", lambda self, mode: io.BufferedReader(FailingFile(self)))
    for num_reads in range(100):
        FailingFile.reads_left = num_reads
        try:
            assert decode(path, num_frames=int(has_pictures)).source_sha256 == whole.source_sha256
            break
        except UsageError as error:
            assert str(error).startswith(f"cannot read {path}: Input/output error")
    assert num_reads >= 5


def test_what_the_system_does_not_open_is_no_verdict_unless_it_is_missing(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UsageError, match=rf"cannot read {tmp_path}/folder.mp4: Is a directory"):
        decode(tmp_path / "folder.mp4")
    assert refusal(tmp_path / "nothing.mp4") == "missing file"


def test_a_verdict_travels_between_processes():
    verdict = pickle.loads(pickle.dumps(BadClip("too short", "0.60 s of sound")))
    assert (verdict.reason, verdict.detail, str(verdict)) == (
        "too short",
        "0.60 s of sound",
        "too short: 0.60 s of sound",
    )
