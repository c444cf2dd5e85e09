"""One process at a time works in a run's folder, on whatever host; a lease whose holder is gone is taken over."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cocktail.storage import StorageError, delete_file, exists, is_remote, join, read_bytes, write_atomic
from cocktail.tracking import lease as leases
from cocktail.tracking.lease import LEASE, Lease
from cocktail.tracking.processes import this_process
from cocktail.types import UsageError
from tests.services.s3_server import s3_server

ELSEWHERE = {**this_process(), "host": "elsewhere", "pid": "4711", "boot": "another"}
QUICK: dict[str, Any] = {"renew_seconds": 0.05, "lapse_seconds": 0.6, "settle_seconds": 0.2}


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path, monkeypatch):
    """A run's folder on this disk, and in an object store."""
    if request.param == "local":
        yield str(tmp_path / "run")
    else:
        with s3_server(monkeypatch):
            yield "s3://bucket/output/runs/run"


@pytest.fixture(autouse=True)
def sigterm_interrupts() -> Iterator[None]:
    """As while a run is open."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


def lease_of(folder: str, process: dict[str, str], **seconds: float) -> Lease:
    """A lease as another process would hold it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases, "this_process", lambda: process)
        return Lease(folder, "run", **{**QUICK, **seconds})


def left_behind(folder: str, process: dict[str, str]) -> None:
    """The lease of a process that was killed."""
    data = json.dumps({"process": process, "token": "its", "renewals": 3}).encode()
    if is_remote(folder):
        write_atomic(join(folder, LEASE), data)
        return
    # `write_atomic` of a holder in this process has the same temporary name.
    Path(folder).mkdir(exist_ok=True)
    theirs = Path(folder, "theirs")
    theirs.write_bytes(data)
    theirs.replace(Path(folder, LEASE))


def taken_over(folder: str) -> None:
    """Another process takes a lease from its holder, whose renewal may cross the first write."""
    for _ in range(20):
        left_behind(folder, ELSEWHERE)
        time.sleep(1)


def test_a_lease_is_given_back_and_taken_again(folder):
    for _ in range(2):
        with Lease(folder, "run", **QUICK):
            assert json.loads(read_bytes(join(folder, LEASE)))["process"] == this_process()
        assert not exists(join(folder, LEASE))


def test_a_run_of_a_living_process_on_another_host_is_refused_with_its_name(folder, capsys):
    with lease_of(folder, ELSEWHERE), pytest.raises(UsageError) as refused, Lease(folder, "run", **QUICK):
        pass
    assert "run run is being done by process 4711 on elsewhere: wait for it or stop it" in str(refused.value)
    assert "watching for 0.6 s" in capsys.readouterr().out


def test_a_run_that_is_given_back_meanwhile_is_taken(folder):
    left_behind(folder, ELSEWHERE)
    threading.Timer(0.2, lambda: delete_file(join(folder, LEASE))).start()
    began = time.monotonic()
    with Lease(folder, "run", **{**QUICK, "lapse_seconds": 30.0}):
        assert time.monotonic() - began < 20


def test_a_run_whose_process_on_another_host_was_killed_is_taken_once_its_lease_has_lapsed(folder):
    left_behind(folder, ELSEWHERE)
    began = time.monotonic()
    with Lease(folder, "run", **QUICK):
        assert time.monotonic() - began >= QUICK["lapse_seconds"]


def test_a_run_of_another_machine_of_this_ones_name_is_not_taken_at_once(folder):
    """As of a clone, or of two pods: only the machine's start tells them apart."""
    left_behind(folder, {**this_process(), "boot": "another"})
    began = time.monotonic()
    with Lease(folder, "run", **QUICK):
        assert time.monotonic() - began >= QUICK["lapse_seconds"]
    with (
        lease_of(folder, {**this_process(), "boot": "another"}),
        pytest.raises(UsageError, match="run run is being done by process"),
        Lease(folder, "run", **QUICK),
    ):
        pass


def test_a_run_that_is_given_back_before_its_holder_can_be_read_is_taken(tmp_path, monkeypatch):
    left_behind(str(tmp_path), ELSEWHERE)

    def give_back(location: str) -> bytes:
        delete_file(location)
        monkeypatch.setattr(leases, "read_bytes", read_bytes)
        return read_bytes(location)

    monkeypatch.setattr(leases, "read_bytes", give_back)
    with Lease(str(tmp_path), "run", **QUICK):
        assert json.loads(read_bytes(join(str(tmp_path), LEASE)))["process"] == this_process()


def test_a_run_whose_process_on_this_host_was_killed_is_taken_at_once(folder):
    left_behind(folder, {**this_process(), "pid": str(2**22 + 1)})
    began = time.monotonic()
    with Lease(folder, "run", **{**QUICK, "lapse_seconds": 60.0}):
        assert time.monotonic() - began < 30


def test_of_several_that_begin_at_once_one_works(folder):
    holders: list[Lease] = []
    refused: list[UsageError] = []
    start = threading.Barrier(4)
    done = threading.Event()

    def begin(number: int) -> None:
        lease = lease_of(folder, {**ELSEWHERE, "pid": str(number)}, settle_seconds=1.0)
        start.wait()
        try:
            with lease:
                holders.append(lease)
                done.wait(10)
        except UsageError as error:
            refused.append(error)
            if len(refused) == 3:
                done.set()

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(holders), len(refused)) == (1, 3)


def test_who_has_lost_a_run_is_interrupted_and_told_to_whom(folder):
    with (
        pytest.raises(UsageError, match="run run was taken over by process 4711 on elsewhere"),
        Lease(folder, "run", **QUICK),
    ):
        taken_over(folder)
    assert json.loads(read_bytes(join(folder, LEASE)))["token"] == "its"


def test_a_lease_that_somebody_removed_is_lost_too(folder):
    with (
        pytest.raises(UsageError, match=r"lease\.json\) was removed, by hand or by who"),
        Lease(folder, "run", **QUICK),
    ):
        delete_file(join(folder, LEASE))
        time.sleep(20)
    assert not exists(join(folder, LEASE))


def test_what_is_interrupted_leaves_the_lease_and_the_same_process_takes_it_again(folder):
    with pytest.raises(KeyboardInterrupt), Lease(folder, "run", **QUICK):
        raise KeyboardInterrupt
    assert exists(join(folder, LEASE))
    with Lease(folder, "run", **QUICK):
        pass
    assert not exists(join(folder, LEASE))


def test_a_lease_cut_short_by_a_kill_lapses(tmp_path):
    Path(tmp_path, LEASE).write_text('{"proc')
    with Lease(str(tmp_path), "run", **QUICK):
        pass


def test_a_write_without_room_is_tried_again_and_who_takes_the_lease_over_is_still_seen(tmp_path, monkeypatch, capsys):
    attempts = []

    def write(location: str, data: bytes) -> None:
        attempts.append(location)
        if len(attempts) == 1:
            raise UsageError(f"cannot write {location}: No space left on device")
        write_atomic(location, data)

    monkeypatch.setattr(leases, "write_atomic", write)
    with pytest.raises(UsageError, match="taken over by process 4711"), Lease(str(tmp_path), "run", **QUICK):
        time.sleep(0.5)
        assert json.loads(read_bytes(join(str(tmp_path), LEASE)))["renewals"] >= 2
        taken_over(str(tmp_path))
    assert "could not be renewed: cannot write" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lease_that_nobody_can_look_after_any_more_ends_the_process(tmp_path, monkeypatch):
    def fail(location: str, data: bytes) -> None:
        raise ZeroDivisionError(location)

    monkeypatch.setattr(leases, "write_atomic", fail)
    with (
        pytest.raises(UsageError, match=r"the lease of run run cannot be renewed .*ZeroDivisionError"),
        Lease(str(tmp_path), "run", **QUICK),
    ):
        time.sleep(20)


def test_a_lease_that_cannot_be_given_back_fails_nothing(tmp_path, monkeypatch, capsys):
    def fail(location: str) -> None:
        raise StorageError(f"cannot delete {location}: timeout")

    monkeypatch.setattr(leases, "delete_file", fail)
    with Lease(str(tmp_path), "run", **QUICK):
        pass
    assert "the lease of run run could not be given back, so it lapses: cannot delete" in capsys.readouterr().out


def test_an_outage_of_the_store_ends_nothing(tmp_path, monkeypatch, capsys):
    def fail(location: str) -> bytes:
        raise StorageError(f"cannot read {location}: timeout")

    with Lease(str(tmp_path), "run", **QUICK):
        with monkeypatch.context() as outage:
            outage.setattr(leases, "read_bytes", fail)
            time.sleep(0.3)
        time.sleep(0.2)
    assert "the lease of run run could not be renewed: cannot read" in capsys.readouterr().out
    assert not exists(join(str(tmp_path), LEASE))
