"""What ends training for good, and what a restart may mend."""

from __future__ import annotations

import pytest
from ray.exceptions import RayTaskError

from cocktail.storage import StorageError
from cocktail.tracking.outages import OutageError
from cocktail.train.ray_train import Verdict
from cocktail.train.update import NonFiniteLossError
from cocktail.types import UsageError


@pytest.mark.parametrize("kind", [UsageError, NonFiniteLossError, OutageError])
def test_what_no_restart_mends_lets_no_worker_begin_again_and_is_raised_once(tmp_path, kind):
    verdict = Verdict(str(tmp_path / "failed"))
    with pytest.raises(kind), verdict.recording():
        raise kind("why")
    with verdict.recording() as begins:
        assert not begins
    with pytest.raises(kind, match=r"^why$"):
        verdict.raise_any()
    verdict.raise_any()


@pytest.mark.parametrize("kind", [StorageError, RuntimeError])
def test_after_an_outage_of_a_store_or_an_unknown_error_a_worker_begins_again(tmp_path, kind):
    verdict = Verdict(str(tmp_path / "failed"))
    with pytest.raises(kind), verdict.recording():
        raise kind("why")
    with verdict.recording() as begins:
        assert begins
    verdict.raise_any()


def from_a_task(error: Exception) -> Exception:
    """As Ray raises in a worker what a task, one that renders mixtures, raised elsewhere."""
    return RayTaskError("render", "Traceback of the task", error).as_instanceof_cause()


class NarrowError(UsageError):
    """One of the kinds of mistakes that only some parts know."""


@pytest.mark.parametrize("error", [from_a_task(UsageError("why")), NarrowError("why")])
def test_a_mistake_of_any_kind_and_from_any_process_is_raised_with_its_own_words(tmp_path, error):
    verdict = Verdict(str(tmp_path / "failed"))
    with pytest.raises(UsageError), verdict.recording():
        raise error
    with pytest.raises(UsageError, match=r"^why$"):
        verdict.raise_any()


def test_after_an_outage_of_a_store_that_a_task_met_a_worker_begins_again(tmp_path):
    verdict = Verdict(str(tmp_path / "failed"))
    with pytest.raises(StorageError), verdict.recording():
        raise from_a_task(StorageError("why"))
    with verdict.recording() as begins:
        assert begins
