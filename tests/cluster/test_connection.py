"""What the processes of a cluster are told, whoever starts them."""

import logging
import os
from typing import Any

import pytest
import ray
from ray.data._internal.issue_detection import issue_detector_manager
from ray.data._internal.issue_detection.detectors.high_memory_detector import (
    HIGH_MEMORY_FINAL_WARNING,
    HIGH_MEMORY_PERIODIC_WARNING,
)

from cocktail.cluster.connection import prepare_train
from cocktail.machine import usable_cores


class Started:
    """A process that is started by another, with an environment of its own: so does Ray Train start its cleaner."""

    def told(self) -> dict[str, str]:
        return dict(os.environ)


class Starter:
    def told(self) -> dict[str, str]:
        cleaner: Any = ray.remote(num_cpus=0)(Started)
        return ray.get(cleaner.remote().told.remote())


def test_every_process_knows_its_cluster_and_keeps_quiet_about_cpus(local_ray):
    runtime_env = {"env_vars": {"OF_ITS_OWN": "1"}}
    controller: Any = ray.remote(num_cpus=0, runtime_env=runtime_env)(Starter)
    told: Any = ray.get(controller.remote().told.remote())
    assert told["OF_ITS_OWN"] == "1"
    assert told["RAY_ADDRESS"] == ray.get_runtime_context().gcs_address
    assert told["RAY_DATA_STARVATION_WARNING_DELAY_S"] == "inf"


@pytest.mark.usefixtures("local_ray")
def test_a_small_machine_starts_the_processes_of_a_sweep_without_a_warning():
    # Ray warns of four times as many as it starts at a time. A sweep of two trials has some fifteen.
    at_once = "RAY_worker_maximum_startup_concurrency"
    assert 4 * max(int(os.environ.get(at_once, 0)), usable_cores()) > 30


def test_what_looks_like_an_error_of_every_run_is_not_said(monkeypatch, caplog):
    monkeypatch.delenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", raising=False)
    prepare_train()
    assert os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] == "0"
    with caplog.at_level(logging.WARNING):
        logging.getLogger("ray.data._internal.progress").warning("Progress bars disabled.")
        tokens = logging.getLogger("ray._private.authentication.authentication_token_setup")
        tokens.warning("Token authentication is enabled for this Ray cluster.")
        tokens.warning("Token authentication is disabled for this Ray cluster.")
        detectors = logging.getLogger(issue_detector_manager.__name__)
        for advice in (HIGH_MEMORY_PERIODIC_WARNING, HIGH_MEMORY_FINAL_WARNING, "A task seems to hang."):
            detectors.warning(advice)
    assert [record.getMessage() for record in caplog.records] == [
        "Token authentication is disabled for this Ray cluster.",
        "A task seems to hang.",
    ]
