"""The training loop on a Ray cluster: one process a worker, gloo on CPUs, NCCL on GPUs."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from typing import Any

import ray
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.tune.integration.ray_train import TuneReportCallback

from cocktail.config import Experiment, Resources
from cocktail.storage import join, resolve
from cocktail.tracking import TrackedRun
from cocktail.train.checkpoint import CheckpointStore, require_identity
from cocktail.train.cluster import find_cause, num_nodes, quiet_ray, require_resources, trials_at_once
from cocktail.train.look import Look, Place
from cocktail.train.loop import NonFiniteLossError, train
from cocktail.types import BatchSource, MixtureBatch, UsageError

LAST_LOOK = "look/step"
"""The metric that says up to where looks are recorded."""


def uses_gpus(resources: Resources) -> bool:
    """Whether models run on GPUs, by the setting and by what the cluster has now."""
    return resources.gpu == "yes" or (resources.gpu == "auto" and ray.cluster_resources().get("GPU", 0) > 0)


def prepare(experiment: Experiment, *, identity: dict[str, Any], run_folder: str, gpus: bool, data_cpus: float) -> None:
    """Raise UsageError for what would fail in `fit`, before anything is recorded.

    That is a checkpoint of other settings in the run's folder, or a cluster that is too small. `data_cpus` is
    what the batch source needs on the cluster for each worker.
    """
    found = checkpoint_store(run_folder).newest()
    if found is not None:
        require_identity(found, identity)
        print(f"going on from {found}", flush=True)
    workers = experiment.resources.num_workers
    demand = {"CPU": workers * (experiment.resources.cpus_per_worker + data_cpus)}
    require_resources({**demand, "GPU": workers} if gpus else demand, "training")


def checkpoint_store(run_folder: str) -> CheckpointStore:
    """Where a run keeps its checkpoints."""
    return CheckpointStore(join(run_folder, "checkpoints"))


def fit(
    experiment: Experiment,
    source: BatchSource,
    *,
    num_classes: int,
    identity: dict[str, Any],
    about: dict[str, Any],
    run_folder: str,
    tracked: TrackedRun,
    gpus: bool,
    look_at: Callable[[], tuple[MixtureBatch, ...]],
) -> str:
    """Train on the cluster, from the run's newest checkpoint if it has one. Returns the last checkpoint's location.

    `look_at` reads, on each worker, the held-out mixtures that training looks at; each checkpoint carries `about`.
    A worker that dies takes its group with it; the group starts again from the newest checkpoint, up to
    `resources.max_failures` times. In a trial of a sweep, Ray Tune gets the metrics of each log line. Raises
    NonFiniteLossError and UsageError as `cocktail.train.loop.train` does.
    """
    resources = experiment.resources
    checkpoints = dataclasses.replace(checkpoint_store(run_folder), about=about)
    per_worker = {"CPU": resources.cpus_per_worker, **({"GPU": 1} if gpus else {})}
    # Train's cleaner asks the state API without an address. That finds the last `ray start` on this machine, and if
    # it is another cluster, this run's controller looks dead there and its workers lose their resources.
    was_set = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")
    at_once = trials_at_once()
    trials_a_node = None if at_once is None else math.ceil(at_once / num_nodes())

    def worker() -> None:
        _train_here(experiment, source, num_classes, identity, checkpoints, tracked, look_at, trials_a_node)

    filesystem, path = resolve(join(run_folder, "ray"))
    trainer = TorchTrainer(
        worker,
        scaling_config=ScalingConfig(
            num_workers=resources.num_workers,
            use_gpu=gpus,
            resources_per_worker=per_worker,
        ),
        run_config=RunConfig(
            # A name of its own for each start: what to resume is decided by our checkpoints alone.
            name=f"start-{time.time_ns()}",
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=resources.max_failures),
            callbacks=None if at_once is None else [TuneReportCallback()],
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        for kind in (NonFiniteLossError, UsageError):
            known = find_cause(error, kind)
            if known is not None:
                raise known from error
        raise
    finally:
        del os.environ["RAY_ADDRESS"]
        if was_set is not None:
            os.environ["RAY_ADDRESS"] = was_set
    last = checkpoints.newest()
    assert last is not None, "training ended without its last checkpoint"
    return last


def _train_here(
    experiment: Experiment,
    source: BatchSource,
    num_classes: int,
    identity: dict[str, Any],
    checkpoints: CheckpointStore,
    tracked: TrackedRun,
    look_at: Callable[[], tuple[MixtureBatch, ...]],
    trials_a_node: int | None,
) -> None:
    """What each training process runs. `trials_a_node` is of the sweep that this is part of, if it is."""
    quiet_ray()
    context = ray.train.get_context()
    place = Place(device=get_device(), rank=context.get_world_rank(), world_size=context.get_world_size())
    if place.device.type == "cpu":
        # Ray sets one thread for a fraction of a CPU; the processes of a node share its cores instead.
        processes = context.get_local_world_size() * (trials_a_node or 1)
        torch.set_num_threads(max(len(os.sched_getaffinity(0)) // processes, 1))
    if place.rank == 0:
        print(f"training on {place.device}, from {checkpoints.newest() or 'the first step'}", flush=True)
    # After a restart, steps are repeated that were logged before: what follows the last of them is new.
    logged = _last_step(tracked, "loss/total") if place.rank == 0 else 0
    looked = _last_step(tracked, LAST_LOOK) if place.rank == 0 else -1

    def on_log(step: int, num_steps: int, metrics: dict[str, float]) -> None:
        if place.rank == 0:
            print(_progress_line(step, num_steps, metrics), flush=True)
            if step > logged:
                tracked.log(metrics, step)
        if trials_a_node is not None:
            ray.train.report({"step": step, "num_steps": num_steps, **metrics})

    def on_look(step: int, scores: dict[str, float]) -> None:
        if place.rank == 0 and step > looked:
            tracked.log({**scores, LAST_LOOK: step}, step)

    torch.manual_seed(experiment.seed)
    train(
        experiment.model.build(num_classes),
        source,
        experiment.training,
        seed=experiment.seed,
        place=place,
        checkpoints=checkpoints,
        identity=identity,
        on_log=on_log,
        look=Look(batches=look_at(), on_look=on_look),
    )


def _last_step(tracked: TrackedRun, metric: str) -> int:
    """The last step with a value of a metric; -1 if there is none."""
    history = tracked.history(metric)
    return history[-1][0] if history else -1


def _megabytes(metrics: dict[str, float]) -> str:
    """What was read, and what is worth a look: the cache, if there is one, and what was dropped, if anything was."""
    text = f"{metrics['bytes_read_per_second'] / 1e6:.1f} MB/s read, "
    if "cache_hit_share" in metrics:
        text += f"{metrics['bytes_fetched_per_second'] / 1e6:.1f} MB/s fetched, "
        text += f"cache hits {metrics['cache_hit_share']:.1%}, "
    return text + (f"{metrics['dropped_mixtures']:.0f} mixtures dropped, " if metrics["dropped_mixtures"] else "")


def _progress_line(step: int, num_steps: int, metrics: dict[str, float]) -> str:
    left = (num_steps - step) * metrics["seconds_per_step"]
    losses = " ".join(
        f"{name.removeprefix('loss/')} {value:.4f}" for name, value in metrics.items() if name.startswith("loss/")
    )
    return (
        f"step {step}/{num_steps}: {losses}; lr {metrics['learning_rate']:.1e}, "
        f"{metrics['seconds_per_step']:.2f} s/step, {metrics['mixtures_per_second']:.1f} mixtures/s, "
        f"waiting for data {metrics['data_wait_share']:.1%}, {_megabytes(metrics)}{left / 60:.1f} min left"
    )
