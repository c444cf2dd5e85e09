"""What takes too much in the decoding process ends there, is told, and hinders nothing that comes after it."""

import itertools
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from cocktail.media.bad_clips import BadClip
from cocktail.media.clips import decode_clip
from cocktail.media.decoding_process import DecodingProcess
from cocktail.types import UsageError
from tests.made.corpora.miniature_clips import write_clip


@pytest.fixture(scope="module")
def process():
    process = DecodingProcess(max_cpu_seconds=0.2, max_memory_bytes=100_000_000)
    yield process
    process.close()


def refusal(process, function, *arguments):
    with pytest.raises(BadClip) as caught:
        process.call(function, *arguments)
    return caught.value


def test_what_calculates_for_ever_is_ended_and_the_next_call_is_answered(process):
    found = refusal(process, sum, itertools.count())
    assert (found.reason, found.detail) == ("too costly", "decoding takes more than 0.2 s of a processor")
    assert process.call(max, 3, 4) == 4


def test_memory_is_bounded_and_the_same_child_goes_on(process):
    child = process.call(os.getpid)
    assert len(process.call(bytes, 20_000_000)) == 20_000_000
    found = refusal(process, bytes, 200_000_000)
    assert (found.reason, found.detail) == ("too costly", "decoding takes more than 0.1 GB of memory")
    assert process.call(os.getpid) == child


def test_a_decoder_that_crashes_is_a_verdict_on_its_file(process):
    found = refusal(process, signal.raise_signal, signal.SIGSEGV)
    assert (found.reason, found.detail) == ("decode error", "its decoder was ended by SIGSEGV")


def test_a_child_that_the_system_kills_is_tried_once_more(process, tmp_path):
    os.kill(process.call(os.getpid), signal.SIGKILL)
    time.sleep(0.05)
    assert process.call(max, 3, 4) == 4
    found = refusal(process, signal.raise_signal, signal.SIGKILL)
    assert found.reason == "too costly"
    assert "twice" in found.detail


def test_what_neither_answers_nor_works_is_given_up():
    process = DecodingProcess(max_wait_seconds=0.3)
    process.call(max, 3, 4)
    assert refusal(process, time.sleep, 60).detail == "no answer for 0.3 s"
    process.close()


def test_errors_come_out_as_they_are_raised(process, tmp_path):
    with pytest.raises(BadClip, match="missing file"):
        process.call(decode_clip, tmp_path / "none.mp4", sample_rate_hz=11025)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UsageError, match="Is a directory"):
        process.call(decode_clip, tmp_path / "folder.mp4", sample_rate_hz=11025)
    with pytest.raises(ValueError, match="invalid literal"):
        process.call(int, "x")


def test_the_child_ends_with_its_parent(tmp_path):
    process = DecodingProcess()
    child = process.call(os.getpid)
    process.close()
    assert not Path(f"/proc/{child}").exists()


def test_a_pipe_named_like_a_clip_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(BadClip, match="not media"):
        decode_clip(tmp_path / "a.mp4", sample_rate_hz=11025)


def test_a_clip_comes_out_as_without_the_process(tmp_path):
    write_clip(tmp_path / "a.mp4")
    process = DecodingProcess()
    apart = process.call(decode_clip, tmp_path / "a.mp4", sample_rate_hz=11025)
    process.close()
    here = decode_clip(tmp_path / "a.mp4", sample_rate_hz=11025)
    assert np.array_equal(apart.audio, here.audio)
    assert (apart.pictures, apart.picture_seconds) == (here.pictures, here.picture_seconds)
