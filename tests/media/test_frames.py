"""Which frames are decoded on the way to those that are wanted: few, one at a time, and none of them another."""

from typing import Any

import av
import numpy as np
import psutil
import pytest

from cocktail.media import frames
from cocktail.media.frames import VideoPackets, frames_at, prepare_video, upright

FPS, NUM_FRAMES, GROUP = 10, 240, 20


def write_video(path, codec="libx264"):
    """Noise, of H.264 with B-frames before each keyframe, too."""
    numbers = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        video.options = {"g": str(GROUP)}
        if codec == "libx264":
            video.options |= {"bf": "2", "x264-params": "open-gop=1:scenecut=0:b-adapt=0:threads=1"}
        for _ in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(numbers.integers(0, 255, (64, 64, 3), np.uint8), "rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())


def wanted_frames(path, targets):
    """An iterator over `frames_at`, as `decode_clip` calls it after its first pass."""
    container = av.open(str(path))
    video = container.streams.video[0]
    prepare_video(video)
    packets = VideoPackets(by_decoding=container.format.name == "avi")
    for packet in container.demux():
        packets.note(packet)
    return frames_at(container, video, lambda: av.open(str(path)), packets, targets)


@pytest.fixture
def num_decoded(monkeypatch):
    """Packets that were given to a decoder so far, one entry each."""
    decoded = []

    def decode(packet):
        decoded.append(packet.pts)
        return packet.decode()

    monkeypatch.setattr(frames, "_decode", decode)
    return decoded


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        ("mp4", "libx264"),
        ("mkv", "libx264"),
        ("ts", "libx264"),
        ("flv", "libx264"),
        ("avi", "mpeg4"),
        ("mkv", "libvpx-vp9"),
        ("mp4", "libsvtav1"),
    ],
)
def test_each_wanted_frame_is_decoded_from_its_own_keyframe_and_is_as_in_a_whole_pass(
    tmp_path, ending, codec, num_decoded
):
    path = tmp_path / f"a.{ending}"
    write_video(path, codec)
    with av.open(str(path)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    ((_, begin),) = wanted_frames(path, [-1.0])
    for targets in ([1.03, 1.05, 9.0, 9.3, 17.95, 23.5], [3.95, 4.0, 4.05], list(np.arange(0.0, 23.9, 0.3))):
        num_decoded.clear()
        found = list(wanted_frames(path, [begin + target for target in targets]))
        for (frame, seconds), target in zip(found, targets, strict=True):
            assert abs(seconds - begin - target) <= 0.5 / FPS + 1e-3
            assert np.array_equal(frame.to_ndarray(format="rgb24"), plain[round((seconds - begin) * FPS)])
        if len(targets) == 6:
            assert len(num_decoded) < 4 * 1.5 * GROUP < NUM_FRAMES - GROUP


def test_a_frame_comes_before_the_next_one_is_decoded(tmp_path, num_decoded):
    write_video(tmp_path / "a.mp4")
    coming = wanted_frames(tmp_path / "a.mp4", [0.5, 12.5, 23.5])
    assert next(coming)[1] == 0.5
    assert len(num_decoded) < GROUP
    assert [round(seconds, 6) for _, seconds in coming] == [12.5, 23.5]


def test_a_picture_takes_no_thread_along(tmp_path):
    write_video(tmp_path / "a.mp4")
    process = psutil.Process()
    before = process.num_threads()
    pictures = [(frame, upright(frame, 1.0)) for frame, _ in wanted_frames(tmp_path / "a.mp4", [1.0, 5.0, 9.0])]
    assert (len(pictures), process.num_threads()) == (3, before)
