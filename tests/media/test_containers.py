"""Whatever a container says or leaves out, all of its sound comes out, and the picture at the sound's middle."""

import io
import wave
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from cocktail.media.bad_clips import BadClip
from cocktail.media.clips import decode_clip
from cocktail.media.frames import shown_at
from tests.made.corpora.miniature_clips import FPS, RATE, gray_level, tone, write_clip


def decode(path, *, num_frames=1, **changes):
    return decode_clip(path, sample_rate_hz=RATE, num_frames=num_frames, **changes)


def remux(source, target, *, form=None, keep=lambda packet: True, shift_seconds=0.0, options=None):
    """Copy the packets that are to be kept into another container, nothing decoded."""
    with av.open(str(source)) as given, av.open(str(target), "w", format=form, options=options or {}) as made:
        tracks = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is None or packet.pts is None or not keep(packet):
                continue
            shift = round(shift_seconds / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = tracks[packet.stream_index]
            made.mux(packet)


def brightness(jpeg):
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), float)
    return pixels[:, 3 * pixels.shape[1] // 4].mean()


def write_slides(path, seconds, codec="libx264", size=(64, 48)):
    """An MKV with a second of tone for each of some pictures, and a picture at each of some times."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=FPS)
        video.width, video.height = size
        video.pix_fmt, video.time_base = "yuv420p", Fraction(1, 1000)
        audio: Any = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number, when in enumerate(seconds):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), gray_level(5 * number % 40), np.uint8))
            frame.pts, frame.time_base = round(1000 * when), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        samples = np.rint(tone(10.0) * 32767).astype(np.int16)[np.newaxis]
        sound = av.AudioFrame.from_ndarray(samples, "s16", layout="mono")
        sound.rate, sound.pts = RATE, 0
        container.mux(audio.encode(sound))


def write_wav(path, samples, rate=RATE):
    with wave.open(str(path), "wb") as file:
        file.setparams((1 if samples.ndim == 1 else samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(np.ascontiguousarray(samples, np.int16).tobytes())


def pcm(seconds):
    return np.rint(tone(seconds) * 32767).astype(np.int16)


@pytest.mark.parametrize(("form", "shift_seconds"), [("mpegts", 0), ("mpegts", 30), ("matroska", 7), ("flv", 0)])
def test_the_picture_in_another_container_is_that_of_the_mp4(tmp_path, form, shift_seconds):
    write_clip(tmp_path / "a.mp4", seconds=4.0)
    remux(tmp_path / "a.mp4", tmp_path / "b.mp4", form=form, shift_seconds=shift_seconds)
    here, there = decode(tmp_path / "a.mp4"), decode(tmp_path / "b.mp4")
    assert abs(here.duration_seconds - there.duration_seconds) < 0.1
    assert abs(there.picture_seconds[0] - there.duration_seconds / 2) <= 0.5 / FPS + 0.001
    assert abs(brightness(there.pictures[0]) - brightness(here.pictures[0])) < 6  # a picture sooner or later


def test_a_section_whose_picture_begins_before_its_sound_is_whole(tmp_path):
    write_clip(tmp_path / "a.mp4", seconds=4.0)
    remux(
        tmp_path / "a.mp4",
        tmp_path / "b.mkv",
        keep=lambda packet: packet.stream.type == "video" or packet.pts * packet.time_base >= 2,
    )
    clip = decode(tmp_path / "b.mkv")
    assert abs(clip.duration_seconds - 2.0) < 0.1
    assert abs(clip.picture_seconds[0] - 1.0) < 0.1
    assert abs(brightness(clip.pictures[0]) - gray_level(30)) < 8


@pytest.mark.parametrize("form", ["mp4", "matroska", "flv", "mpegts"])
@pytest.mark.parametrize("num_frames", [0, 1])
def test_sound_that_ends_before_the_picture_is_whole(tmp_path, form, num_frames):
    write_clip(tmp_path / "a.mp4", seconds=4.0, sound=np.stack([tone(2.0)] * 2))
    remux(tmp_path / "a.mp4", tmp_path / "b.mp4", form=form)
    clip = decode(tmp_path / "b.mp4", num_frames=num_frames)
    assert abs(clip.duration_seconds - 2.0) < 0.1


@pytest.mark.parametrize("form", ["mp3", "adts"])
def test_a_length_that_is_a_guess_from_the_bit_rate_is_not_believed(tmp_path, form):
    path = tmp_path / f"a.{form}"
    options = {"write_xing": "0", "id3v2_version": "0"} if form == "mp3" else {}
    with av.open(str(path), "w", format=form, options=options) as container:
        stream: Any = container.add_stream("libmp3lame" if form == "mp3" else "aac", rate=RATE, layout="mono")
        stream.codec_context.options = {"q": "2"} if form == "mp3" else {}
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE).astype(np.float32)
        sound = np.concatenate([tone(6.0, level=0.01), noise])[np.newaxis]
        frame = av.AudioFrame.from_ndarray(sound, "fltp", layout="mono")
        frame.rate, frame.pts = RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert abs(decode(path, num_frames=0, max_seconds=9.0).duration_seconds - 8.0) < 0.15


@pytest.mark.parametrize("difference", [-8, 8, 9, 0xFFFFFFFF, 0x7FFFFFFF])
def test_riff_sizes_that_are_off_by_a_header_or_unknown_cost_nothing(tmp_path, difference):
    write_wav(tmp_path / "a.wav", pcm(2.0))
    data = bytearray((tmp_path / "a.wav").read_bytes())
    size = difference if difference > 9 else len(data) - 8 + difference
    data[4:8] = size.to_bytes(4, "little")
    if difference > 9:
        data[40:44] = data[4:8]
    (tmp_path / "a.wav").write_bytes(data)
    assert len(decode(tmp_path / "a.wav", num_frames=0).audio) == 2 * RATE


@pytest.mark.parametrize(("form", "codec"), [("mp4", "aac"), ("matroska", "aac"), ("ogg", "libopus"), ("flac", "flac")])
def test_what_lacks_its_end_is_truncated(tmp_path, form, codec):
    path = tmp_path / "a"
    rate = 48000 if codec == "libopus" else RATE
    options = {"movflags": "faststart"} if form == "mp4" else {}
    with av.open(str(path), "w", format=form, options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout="mono")
        form_of_samples = "s16" if codec in ("flac", "libopus") else "fltp"
        samples = np.rint(tone(4.0, rate=rate) * 32767).astype(np.int16)
        samples = samples if form_of_samples == "s16" else tone(4.0, rate=rate)
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], form_of_samples, layout="mono")
        frame.rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert abs(decode(path, num_frames=0).duration_seconds - 4.0) < 0.1
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(BadClip, match="truncated"):
        decode(path, num_frames=0)


def test_a_header_that_says_another_length_than_the_file_has_is_not_believed(tmp_path):
    write_clip(tmp_path / "a.mp4", seconds=2.0)
    data = (tmp_path / "a.mp4").read_bytes()
    at = data.index(b"mvhd") + 20
    scale, length = (int.from_bytes(data[begin : begin + 4], "big") for begin in (at - 4, at))
    assert 1.99 < length / scale < 2.1
    (tmp_path / "a.mp4").write_bytes(data[:at] + (60 * scale).to_bytes(4, "big") + data[at + 4 :])
    assert abs(decode(tmp_path / "a.mp4").duration_seconds - 2.0) < 0.1


def test_a_section_of_a_flac_file_is_whole_though_its_header_is_of_the_whole(tmp_path):
    with av.open(str(tmp_path / "a.flac"), "w") as container:
        stream: Any = container.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm(4.0)[np.newaxis], "s16", layout="mono")
        frame.rate, frame.pts = RATE, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(tmp_path / "a.flac")) as container:
        ends = [(packet.pos or 0) + packet.size for packet in container.demux() if packet.size]
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(data[: ends[len(ends) // 2]])
    assert 1.8 < decode(tmp_path / "a.flac", num_frames=0).duration_seconds < 2.3
    (tmp_path / "a.flac").write_bytes(data[: ends[len(ends) // 2] - 99])
    with pytest.raises(BadClip, match="truncated"):
        decode(tmp_path / "a.flac", num_frames=0)


def test_bytes_behind_the_end_of_an_mp4_do_not_matter(tmp_path):
    write_clip(tmp_path / "a.mp4")
    with (tmp_path / "a.mp4").open("ab") as file:
        file.write(b"\xff" * 100)
    assert decode(tmp_path / "a.mp4").duration_seconds > 1


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1", "libvpx-vp9"])
def test_the_wanted_frame_is_decoded_by_every_codec(tmp_path, codec):
    write_slides(tmp_path / "a.mkv", np.arange(50) / 5, codec)
    clip = decode(tmp_path / "a.mkv", num_frames=25)  # each second picture, on many of which no other depends
    assert clip.picture_seconds == tuple(round(0.2 + 0.4 * number, 6) for number in range(25))


@pytest.mark.parametrize(
    ("times", "seconds", "expected"),
    [
        ([0.0, 4.0, 8.0], 5.0, 4.0),
        ([0.0, 4.0, 8.0], 7.9, 4.0),
        ([0.0, 4.0, 8.0], 8.0, 8.0),
        ([0.0, 4.0, 8.0], 30.0, 8.0),
        ([2.0, 4.0], 1.0, 2.0),
        ([0.0, 0.04, 0.08], 0.061, 0.08),  # a moving picture: the nearest
        ([0.0, 0.04, 0.08], 0.059, 0.04),
    ],
)
def test_a_slide_is_shown_until_the_next_and_of_a_moving_picture_the_nearest_is_meant(times, seconds, expected):
    assert times[shown_at(times, seconds)] == expected


def test_a_slide_show_has_the_slide_on_the_screen(tmp_path):
    write_slides(tmp_path / "a.mkv", [0.0, 1.0, 5.2, 9.0])
    clip = decode(tmp_path / "a.mkv")
    assert clip.picture_seconds == (1.0,)
    assert abs(brightness(clip.pictures[0]) - gray_level(5)) < 2


# The linear part of a display matrix (ISO/IEC 14496-12, 8.3.2), and what it makes of an upright picture.
SHOWN = {
    (1, 0, 0, 1): lambda pixels: pixels,
    (-1, 0, 0, 1): lambda pixels: pixels[:, ::-1],
    (1, 0, 0, -1): lambda pixels: pixels[::-1],
    (-1, 0, 0, -1): lambda pixels: pixels[::-1, ::-1],
    (0, 1, 1, 0): lambda pixels: pixels.T,
    (0, -1, -1, 0): lambda pixels: pixels[::-1, ::-1].T,
    (0, 1, -1, 0): lambda pixels: np.rot90(pixels, -1),  # x goes down: a quarter to the right
    (0, -1, 1, 0): lambda pixels: np.rot90(pixels),
}
QUARTERS = np.array([[30, 90, 150], [210, 120, 60]], np.uint8).repeat(32, 0).repeat(32, 1)


@pytest.mark.parametrize("matrix", SHOWN)
def test_a_picture_is_turned_and_mirrored_as_its_file_says(tmp_path, matrix):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video: Any = container.add_stream("libx264", rate=FPS)
        video.height, video.width = QUARTERS.shape
        video.pix_fmt, video.options = "yuv420p", {"crf": "10"}
        a, b, c, d = (value << 16 for value in matrix)
        video.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        audio: Any = container.add_stream("aac", rate=RATE, layout="mono")
        for number in range(FPS):
            frame = av.VideoFrame.from_ndarray(np.repeat(QUARTERS[:, :, None], 3, 2))
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(tone(1.1)[np.newaxis], "fltp", layout="mono")
        sound.rate, sound.pts = RATE, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    pixels = np.asarray(Image.open(io.BytesIO(decode(tmp_path / "a.mp4").pictures[0])).convert("L"), int)
    expected = SHOWN[matrix](QUARTERS).astype(int)
    assert pixels.shape == expected.shape
    middles = np.s_[16::32, 16::32]
    assert np.abs(pixels[middles] - expected[middles]).max() < 8


@pytest.mark.parametrize(("aspect", "size"), [((4, 3), (64, 36)), ((3, 4), (48, 48)), ((1, 1), (64, 48))])
def test_pixels_that_are_not_square_are_shown_as_they_are_meant(tmp_path, aspect, size):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video: Any = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(*aspect)
        audio: Any = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 99, np.uint8))
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(pcm(1.1)[np.newaxis], "s16", layout="mono")
        sound.rate, sound.pts = RATE, 0
        container.mux(audio.encode(sound))
    assert Image.open(io.BytesIO(decode(tmp_path / "a.mkv").pictures[0])).size == size


def test_what_a_decoder_holds_back_until_the_end_comes_out(tmp_path):
    with av.open(str(tmp_path / "a.wmv"), "w", format="asf") as container:
        video: Any = container.add_stream("wmv2", rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = container.add_stream("wmav2", rate=RATE, layout="mono")
        audio.bit_rate = 64_000
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 99, np.uint8))
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(tone(2.0)[np.newaxis], "fltp", layout="mono")
        sound.rate, sound.pts = RATE, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    with av.open(str(tmp_path / "a.wmv")) as container:
        num_samples = sum(frame.samples for frame in container.decode(audio=0))
    assert len(decode(tmp_path / "a.wmv").audio) == num_samples
