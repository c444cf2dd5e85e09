"""What takes too much in the decoding process ends there, is told, and hinders nothing that comes after it."""

import gc
import itertools
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from cocktail.media.bad_clips import BadClip
from cocktail.media.clips import decode_clip
from cocktail.media.decoding_process import DecoderStoppedError, DecodingProcess
from cocktail.types import UsageError
from tests.made.corpora.miniature_clips import write_clip


@pytest.fixture(scope="module")
def process():
    process = DecodingProcess(max_cpu_seconds=0.2, max_memory_bytes=100_000_000, retry_seconds=(0.0, 0.1))
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


_LEAKED = []


def leak(num_bytes):
    _LEAKED.append(bytes(num_bytes))


def test_memory_is_bounded_and_what_took_too_much_leaves_nothing_to_those_after_it(process):
    child = process.call(os.getpid)
    assert len(process.call(bytes, 20_000_000)) == 20_000_000
    found = refusal(process, bytes, 200_000_000)
    assert (found.reason, found.detail) == ("too costly", "decoding takes more than 0.1 GB of memory")
    assert process.call(os.getpid) != child
    assert len(process.call(bytes, 20_000_000)) == 20_000_000


def test_what_other_files_left_in_memory_is_no_verdict_on_the_next():
    process = DecodingProcess(max_memory_bytes=100_000_000)
    process.call(leak, 60_000_000)
    child = process.call(os.getpid)
    process.call(leak, 60_000_000)
    assert process.call(os.getpid) != child
    process.close()


_CALLS = []


def decode_one():
    """Something that a child can decode once: after that, it lacks what the first file has not given back."""
    _CALLS.append(None)
    if len(_CALLS) > 1:
        raise BadClip("decode error", "Resource temporarily unavailable")
    return os.getpid()


def test_what_a_decoder_fails_at_is_tried_by_a_child_that_has_decoded_nothing_else():
    process = DecodingProcess()
    children = {process.call(decode_one) for _ in range(3)}
    assert len(children) == 3
    process.close()


def refuse(reason):
    raise BadClip(reason, f"by {os.getpid()}")


@pytest.mark.parametrize(
    ("reason", "is_tried_again"),
    [("decode error", True), ("bad picture", True), ("bad mask", True), ("truncated", False), ("silent", False)],
)
def test_what_is_wrong_with_a_file_itself_is_believed(process, reason, is_tried_again):
    child = process.call(os.getpid)
    assert (refusal(process, refuse, reason).detail == f"by {child}") != is_tried_again


def test_a_child_that_has_decoded_many_pictures_has_no_more_threads_than_after_the_first(tmp_path):
    write_clip(tmp_path / "a.mp4")
    process = DecodingProcess()
    process.call(gc.disable)  # frames that nothing refers to would be found by chance
    num_threads = []
    for _ in range(10):
        process.call(decode_clip, tmp_path / "a.mp4", sample_rate_hz=11025)
        assert process._child is not None
        num_threads.append(psutil.Process(process._child[0].pid).num_threads())
    assert set(num_threads) == {num_threads[0]}
    process.close()


def test_a_child_is_replaced_after_some_calls_and_ends_when_nobody_calls():
    process = DecodingProcess(max_calls=2, max_idle_seconds=0.5)
    children = [process.call(os.getpid) for _ in range(4)]
    assert children[0] == children[1] != children[2] == children[3]
    child = process.call(os.getpid)
    for _ in range(100):
        if psutil.Process(child).status() == psutil.STATUS_ZOMBIE:  # ended, and its memory given back
            break
        time.sleep(0.1)
    else:
        pytest.fail("it is still there")
    assert process.call(os.getpid) != child
    process.close()


def test_a_call_to_a_child_that_is_about_to_end_goes_to_another():
    process = DecodingProcess()
    assert process.call(max, 3, 4) == 4
    assert process._child is not None
    child, connection = process._child
    exits = iter([child.pid])

    class Ending:
        """A connection whose child ends before it reads what is sent."""

        def __getattr__(self, name):
            return getattr(connection, name)

        def send(self, call):
            connection.send((os._exit, (75,), {}))
            assert next(exits)

    process._child = child, Ending()  # pyright: ignore[reportAttributeAccessIssue]
    assert process.call(os.getpid) != child.pid
    process.close()


def test_a_decoder_that_crashes_is_a_verdict_on_its_file(process):
    found = refusal(process, signal.raise_signal, signal.SIGSEGV)
    assert (found.reason, found.detail) == ("decode error", "its decoder was ended by SIGSEGV")


def test_a_child_that_the_system_kills_is_tried_again_and_is_no_verdict(process, tmp_path):
    os.kill(process.call(os.getpid), signal.SIGKILL)
    time.sleep(0.05)
    assert process.call(max, 3, 4) == 4
    begun = time.monotonic()
    with pytest.raises(DecoderStoppedError, match=r"ended the process that decodes 3 times.*Run fewer tasks on a node"):
        DecodingProcess(retry_seconds=(0.0, 0.1)).call(signal.raise_signal, signal.SIGKILL)
    assert time.monotonic() - begun > 0.1


def killed_on_first_call(path):
    if not path.exists():
        path.touch()
        signal.raise_signal(signal.SIGKILL)
    return "decoded"


def test_one_shortage_of_memory_costs_no_file(process, tmp_path):
    assert process.call(killed_on_first_call, tmp_path / "called") == "decoded"


def killed_with_memory(num_bytes):
    _LEAKED.append(b"x" * num_bytes)
    signal.raise_signal(signal.SIGKILL)


def test_a_file_whose_decoder_is_killed_with_much_of_its_memory_in_use_is_too_costly(monkeypatch):
    monkeypatch.setattr("cocktail.media.decoding_process._OWN_SHARE", 0.9)
    process = DecodingProcess(max_memory_bytes=1_000_000_000, retry_seconds=(0.0,))
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 900_000:
        pytest.skip("this process has used so much itself that its child's cannot be told")
    assert refusal(process, killed_with_memory, 950_000_000).reason == "too costly"
    with pytest.raises(DecoderStoppedError):
        process.call(killed_with_memory, 300_000_000)


def test_what_neither_answers_nor_works_is_given_up_without_a_verdict():
    process = DecodingProcess(max_wait_seconds=1.0)
    process.call(max, 3, 4)
    with pytest.raises(DecoderStoppedError, match=r"neither ends nor calculates for 1 s.*run again"):
        process.call(time.sleep, 60)
    process.close()


def test_without_a_count_of_what_is_allocated_memory_is_not_limited_and_files_are_decoded(tmp_path, monkeypatch):
    code = "import sys, psutil; sys.platform = 'other'"
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    process = DecodingProcess(max_memory_bytes=1_000_000)
    assert process.call(resource.getrlimit, resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
    assert len(process.call(bytes, 50_000_000)) == 50_000_000
    process.close()


def test_errors_come_out_as_they_are_raised(process, tmp_path):
    with pytest.raises(BadClip, match="missing file"):
        process.call(decode_clip, tmp_path / "none.mp4", sample_rate_hz=11025)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UsageError, match="Is a directory"):
        process.call(decode_clip, tmp_path / "folder.mp4", sample_rate_hz=11025)
    with pytest.raises(ValueError, match="cannot reshape") as caught:
        process.call(np.reshape, np.zeros(2), 3)
    (note,) = caught.value.__notes__
    assert "In the process that decodes" in note
    assert "fromnumeric.py" in note  # where in the library it was raised


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
