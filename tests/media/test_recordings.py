"""Recordings are read block by block, and keep their samples, rate and channels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from cocktail.media.bad_clips import BadClip
from cocktail.media.recording import BLOCK_SAMPLES, ArrayRecording
from cocktail.media.recordings import FileRecording, decode_whole
from tests.made.corpora.miniature_clips import write_clip

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("ending", "subtype", "bits"), [("wav", "PCM_U8", 8), ("wav", "PCM_16", 16), ("flac", "PCM_24", 24)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_the_files_own(tmp_path, ending, subtype, bits, channels):
    steps = GENERATOR.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (3 * BLOCK_SAMPLES, channels))
    samples = steps / 2.0 ** (bits - 1)
    path = tmp_path / f"sound.{ending}"
    soundfile.write(path, samples, 12345, subtype=subtype)
    recording = FileRecording(path)
    assert (recording.sample_rate_hz, recording.num_channels, recording.has_pictures) == (12345, channels, False)
    assert recording.declared_seconds == pytest.approx(len(samples) / 12345, abs=0.01)
    for _ in range(2):  # each time anew
        blocks = list(recording.blocks())
        assert max(block.shape[1] for block in blocks) < 2 * BLOCK_SAMPLES
        read = np.concatenate(blocks, axis=1)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, samples.T.astype(np.float32))


def test_floats_beyond_full_scale_stay_and_what_is_no_number_is_refused(tmp_path):
    samples = np.array([0.5, -1.5, 3.0], np.float32)
    soundfile.write(tmp_path / "loud.wav", samples, 8000, subtype="FLOAT")
    np.testing.assert_array_equal(
        np.concatenate(list(FileRecording(tmp_path / "loud.wav").blocks()), axis=1)[0], samples
    )
    soundfile.write(tmp_path / "nan.wav", np.array([0.5, np.nan]), 8000, subtype="FLOAT")
    with pytest.raises(BadClip, match="not finite: 1 samples"):
        list(FileRecording(tmp_path / "nan.wav").blocks())
    with pytest.raises(BadClip, match="not finite"):
        list(ArrayRecording(np.array([np.inf]), 8000).blocks())


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty file"), (b"no sound" * 99, "not media"), (b"RIFF\xff\xff\x0f\x00WAVEfmt ", "truncated")],
)
def test_what_is_no_recording_is_told_by_its_reason(tmp_path, data, message):
    (tmp_path / "file.wav").write_bytes(data)
    with pytest.raises(BadClip, match=message):
        FileRecording(tmp_path / "file.wav")
    with pytest.raises(BadClip, match="missing file"):
        FileRecording(tmp_path / "absent.wav")


@pytest.mark.parametrize(("ending", "codec"), [("mp3", "libmp3lame"), ("flac", "flac"), ("flv", "aac")])
def test_a_file_cut_short_is_refused_where_its_own_length_is_not_reached(tmp_path, ending, codec):
    whole, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    write_clip(whole, seconds=20.0, has_pictures=False, audio_codec=codec)
    assert sum(block.shape[1] for block in FileRecording(whole).blocks()) > 0
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    with pytest.raises(BadClip, match=r"truncated: [567]\.\d+ s of 20\.\d+ s are there"):
        list(FileRecording(cut).blocks())


def test_a_length_that_is_a_guess_from_the_bit_rate_is_not_asked_for(tmp_path):
    options = {"write_xing": "0"}
    write_clip(tmp_path / "a.mp3", seconds=20.0, has_pictures=False, audio_codec="libmp3lame", options=options)
    data = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(data[: len(data) // 3])
    assert sum(block.shape[1] for block in FileRecording(tmp_path / "cut.mp3").blocks()) > 0


def make_video(path: Path, seconds: int, with_sound: bool = True) -> None:
    """Grey that brightens by 20 each second, and a tone."""
    with av.open(str(path), "w") as made:
        video = made.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = made.add_stream("aac", rate=16000, layout="mono") if with_sound else None
        for number in range(10 * seconds):
            image = Image.new("RGB", (64, 48), (20 * (number // 10) + 20,) * 3)
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            made.mux(video.encode(frame))
        made.mux(video.encode(None))
        if audio is not None:
            tone = (0.3 * np.sin(np.arange(16000 * seconds) / 7)).astype(np.float32)
            for start in range(0, len(tone), 1024):
                sound = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], "fltp", "mono")
                sound.sample_rate, sound.pts, sound.time_base = 16000, start, Fraction(1, 16000)
                made.mux(audio.encode(sound))
            made.mux(audio.encode(None))


def test_pictures_are_those_that_are_shown_at_the_time(tmp_path):
    make_video(tmp_path / "video.mp4", 4)
    recording = FileRecording(tmp_path / "video.mp4")
    assert recording.has_pictures
    levels = [np.asarray(picture).mean() for picture in recording.pictures_at([0.5, 1.5, 1.6, 3.5])]
    assert levels == pytest.approx([20, 40, 40, 80], abs=6)


def test_a_video_without_sound_and_a_sound_without_pictures_are_told(tmp_path):
    make_video(tmp_path / "mute.mp4", 1, with_sound=False)
    with pytest.raises(BadClip, match="no audio track"):
        FileRecording(tmp_path / "mute.mp4")
    soundfile.write(tmp_path / "sound.wav", np.zeros(100), 8000)
    with pytest.raises(BadClip, match="no video track"):
        list(FileRecording(tmp_path / "sound.wav").pictures_at([0.0]))


def test_short_files_are_decoded_at_once_and_long_ones_are_not(tmp_path):
    soundfile.write(tmp_path / "sound.wav", np.full(800, 0.25), 8000)
    found = decode_whole(tmp_path / "sound.wav", 800)
    assert found is not None and found[0].shape == (1, 800) and found[1] == 8000
    assert decode_whole(tmp_path / "sound.wav", 799) is None
