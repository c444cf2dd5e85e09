"""The training loop on a Ray cluster: one process a worker, gloo on CPUs, NCCL on GPUs."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.tune.integration.ray_train import TuneReportCallback
from torch import nn

from cocktail.checkpoints.initial_weights import KeptWeights
from cocktail.checkpoints.store import CheckpointStore, checkpoint_store, require_identity, step_of
from cocktail.checkpoints.training_record import with_precision
from cocktail.cluster.connection import find_cause, quiet_ray, trials_a_node, trials_at_once
from cocktail.cluster.placement import grows
from cocktail.config.experiment import Experiment
from cocktail.config.resources import Resources
from cocktail.machine import usable_cores
from cocktail.storage import StorageError, delete_file, exists, join, read_bytes, resolve, write_atomic
from cocktail.text.printable import on_lines
from cocktail.tracking.outages import OutageError
from cocktail.tracking.run import TrackedRun
from cocktail.tracking.spool import MetricSpool
from cocktail.tracking.system_metrics import SystemMetrics
from cocktail.train.batches import FirstBatches
from cocktail.train.look import Look
from cocktail.train.loop import train
from cocktail.train.update import NonFiniteLossError
from cocktail.train.validation import Validation
from cocktail.train.worker import Worker, set_up_device, worker_environment
from cocktail.types import BatchSource, MixtureBatch, UsageError

ReadBatches = Callable[[], tuple[MixtureBatch, ...]]

_PLACING_SECONDS = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
"""How long Ray Train waits for the places of a group of workers before it looks anew at what there is. Ray counts what
was on a dead node for some seconds more, and an elastic run that was given such places would wait a minute for them."""
ELASTIC_SECONDS = 10
GROWING_SECONDS = 3600
"""For how long a growing cluster may start nodes for the workers of a training before that counts as a failure."""

_LASTING = {kind.__name__: kind for kind in (NonFiniteLossError, OutageError, UsageError)}
"""Errors that no restart mends, the narrower kind first. MLflow has been waited for by then."""


def uses_gpus(resources: Resources) -> bool:
    """Whether models run on GPUs, by the setting and by what the cluster has now."""
    return resources.gpu == "yes" or (resources.gpu == "auto" and ray.cluster_resources().get("GPU", 0) > 0)


def require_continuable(run_folder: str, identity: dict[str, Any]) -> None:
    """Say where a run goes on. Raises UsageError if that is a checkpoint of other settings."""
    newest = checkpoint_store(run_folder).newest()
    if newest is not None:
        require_identity(newest, identity)
        print(f"going on from step {step_of(newest)}, {newest}", flush=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A training, as each of its processes needs it."""

    experiment: Experiment
    source: BatchSource
    num_classes: int
    identity: dict[str, Any]
    about: dict[str, Any]
    """Values that each checkpoint carries (`cocktail.inference.trained.about`)."""
    folder: str
    """Folder or URI of the run."""
    tracked: TrackedRun
    gpus: bool
    """Whether each worker has a GPU."""
    look_at: ReadBatches
    """Reads, on each worker, the held-out mixtures that training looks at."""
    validate_on: ReadBatches | None = None
    """Reads those that it validates on."""
    initial: tuple[KeptWeights, ...] = ()
    """Weights that the model starts from where there is no checkpoint, one over the other, and all over random ones."""

    @property
    def checkpoints(self) -> CheckpointStore:
        return dataclasses.replace(checkpoint_store(self.folder), about=self.about)

    def new_model(self) -> nn.Module:
        """The model as it is built: the same in every process."""
        torch.manual_seed(self.experiment.seed)
        return self.experiment.model.build(self.num_classes)


def fit(run: TrainingRun) -> str:
    """Train on the cluster, from the run's newest checkpoint if it has one. Returns the location of the last one, or of
    the best (`training.select`). Of a model that is not trained, that of step 0, made here.

    A worker that dies takes its group with it; the group starts again from the newest checkpoint, up to
    `resources.max_failures` times. In a trial of a sweep, Ray Tune gets the metrics of each log line. Raises
    NonFiniteLossError and UsageError as `cocktail.train.loop.train` does, OutageError if MLflow does not take the last
    metrics.
    """
    if not run.experiment.model.trains:
        return run.checkpoints.newest() or run.checkpoints.save(
            0, {"model": run.new_model().state_dict()}, run.identity, keep=1
        )
    _train_on_cluster(run)
    selected = run.checkpoints.selected()
    assert selected is not None, "training ended without its last checkpoint"
    if run.experiment.training.select == "best":
        print(f"of the lowest validation loss: {selected}", flush=True)
    return selected


def _train_on_cluster(run: TrainingRun) -> None:
    """Start workers through Ray Train and wait for the last. Raises what ended training for good."""
    resources = run.experiment.resources
    start = f"start-{time.time_ns()}"
    verdict = Verdict(join(run.folder, "ray", f"{start}.failed"))
    mark = Mark.leave(join(run.folder, "ray", f"{start}.mark"))
    per_worker = {"CPU": resources.cpus_per_worker, **({"GPU": 1} if run.gpus else {})}
    at_once = trials_at_once()
    a_node = None if at_once is None else trials_a_node()

    def train_unless_ended() -> None:
        with verdict.recording() as begins:
            if begins:
                mark.require_seen()
                _train_here(run, a_node)

    filesystem, path = resolve(join(run.folder, "ray"))
    trainer = TorchTrainer(
        train_unless_ended,
        scaling_config=ScalingConfig(
            num_workers=resources.num_workers
            if resources.min_workers is None
            else (resources.min_workers, resources.num_workers),
            use_gpu=run.gpus,
            resources_per_worker=per_worker,
        ),
        run_config=RunConfig(
            # What the Ray dashboard shows. A name of its own for each start: what to resume is decided by our
            # checkpoints alone.
            name=f"{run.folder.rsplit('/', 1)[-1]}-{start}",
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=resources.max_failures),
            callbacks=None if at_once is None else [TuneReportCallback()],
            worker_runtime_env=worker_environment(resources, run.gpus),
        ),
    )
    try:
        with placing_seconds(resources):
            _leaving_signals_alone(trainer.fit)
    except TrainingFailedError as error:
        verdict.raise_any(error)
        raise
    finally:
        mark.remove()
    verdict.raise_any()


@contextmanager
def placing_seconds(resources: Resources) -> Iterator[None]:
    """Have Ray Train wait for places as a run needs, unless the user has set how long; as it was, afterwards.

    An elastic run looks anew soon. One of a set number of processes waits for the nodes that a growing cluster starts,
    which first install what is locked. What no node could hold was refused before (`require_place`).
    """
    seconds = ELASTIC_SECONDS if resources.is_elastic else None
    if resources.min_workers is None and grows():
        seconds = GROWING_SECONDS
    if seconds is None or _PLACING_SECONDS in os.environ:
        yield
        return
    os.environ[_PLACING_SECONDS] = str(seconds)
    try:
        yield
    finally:
        os.environ.pop(_PLACING_SECONDS, None)


def _leaving_signals_alone(fit: Callable[[], Any]) -> None:
    """Call Ray Train's `fit` from a thread: in the main thread it would take Ctrl-C to itself, for ever, and end in a
    process that looks as if all had gone well.

    Interrupted, it goes on until Ray ends with the process, which must not wait for the thread.
    """
    raised: list[BaseException] = []

    def keep_what_is_raised() -> None:
        try:
            fit()
        except BaseException as error:  # noqa: BLE001 (raised below)
            raised.append(error)

    thread = threading.Thread(target=keep_what_is_raised, name="Ray Train", daemon=True)
    thread.start()
    thread.join()
    for error in raised:
        raise error


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What ended training for good, in a file: no restart mends it, but Ray restarts after any error."""

    location: str

    @contextmanager
    def recording(self) -> Iterator[bool]:
        """Write down an error that would come again. Yields whether there is none yet: then a worker may begin."""
        try:
            yield not exists(self.location)
        except Exception as error:
            # Ray wraps what a task of its own raised. An outage of a store may be over when training starts again.
            causes = {name: find_cause(error, kind) for name, kind in _LASTING.items()}
            lasting = [[name, str(cause)] for name, cause in causes.items() if cause is not None]
            if lasting and find_cause(error, StorageError) is None:
                write_atomic(self.location, json.dumps(lasting[0]).encode())
            raise

    def raise_any(self, cause: BaseException | None = None) -> None:
        """Raise the error that was written down, if one was."""
        if exists(self.location):
            kind, message = json.loads(read_bytes(self.location))
            delete_file(self.location)
            raise _LASTING[kind](message) from cause


@dataclasses.dataclass(frozen=True)
class Mark:
    """A file in a run's folder that says which start of which run it is, by which a node shows that it sees the same
    folder as the driver: the checkpoints that one writes, all have to find."""

    location: str
    text: str

    @classmethod
    def leave(cls, location: str) -> Mark:
        """Write a mark, in the driver."""
        mark = cls(location, secrets.token_hex(16))
        write_atomic(location, mark.text.encode())
        return mark

    def remove(self) -> None:
        """Take the mark away, in the driver, once no worker will look for it any more."""
        try:
            delete_file(self.location)
        except StorageError as error:  # training has ended, well or not, and that is what counts
            print(f"{self.location} is left: {on_lines(str(error))}", file=sys.stderr)

    def require_seen(self) -> None:
        """Raise UsageError, on all workers alike, if any of them does not see the mark.

        Where some see it, the error is theirs to write down: what is written elsewhere, the driver does not find.
        """
        mine = None if self._is_here() else socket.gethostname()
        all_of: list[str | None] = [mine]
        if dist.is_initialized() and dist.get_world_size() > 1:
            all_of = [None] * dist.get_world_size()
            dist.all_gather_object(all_of, mine)
        if blind := sorted({host for host in all_of if host is not None}):
            folder = self.location.rpartition("/ray/")[0]
            raise UsageError(
                f"{', '.join(blind)} does not see {folder}, where the run is: --output has to be a folder that all "
                "nodes share, or a URI (s3://bucket/runs)"
            )

    def _is_here(self) -> bool:
        return exists(self.location) and read_bytes(self.location) == self.text.encode()


def _train_here(run: TrainingRun, trials: int | None) -> None:
    """Train in this process, one of the run's. `trials` is how many of a sweep share a node; None if this is none of
    them."""
    quiet_ray()
    worker = _this_worker(trials or 1)
    experiment, checkpoints, source = run.experiment, run.checkpoints, run.source
    newest = checkpoints.newest()
    if worker.rank == 0:
        print(f"training on {worker.device}, from {newest or 'the first step'}", flush=True)

    def on_log(step: int, num_steps: int, metrics: dict[str, float]) -> None:
        if spool is not None:
            print(_progress_line(step, num_steps, metrics), flush=True)
            spool.log({**metrics, **system.now()}, step)
        if trials is not None:
            ray.train.report({"step": step, "num_steps": num_steps, **metrics})

    def on_look(step: int, scores: dict[str, float]) -> None:
        if spool is not None:
            spool.log(scores, step)

    def on_save(step: int) -> None:
        if spool is not None:
            spool.keep()

    system = SystemMetrics(worker.device)
    model = run.new_model()
    for weights in run.initial if newest is None else ():
        weights.load(model)
    training = experiment.training
    precision = set_up_device(training.precision, worker.device)
    if training.overfit_batches is not None:
        source = FirstBatches(source, training.overfit_batches)
    validate_on, every = run.validate_on, training.validate_every
    with MetricSpool(run.tracked, run.folder) if worker.rank == 0 else nullcontext() as spool:
        train(
            model,
            source,
            training,
            seed=experiment.seed,
            worker=worker,
            checkpoints=dataclasses.replace(checkpoints, about=with_precision(run.about, precision, newest)),
            identity=run.identity,
            on_log=on_log,
            parameter_groups=experiment.model.parameter_groups,
            look=Look(batches=run.look_at(), on_look=on_look),
            validation=None if validate_on is None else Validation(batches=validate_on(), every=every),
            compiled=experiment.resources.compile,
            on_save=on_save,
        )


def _this_worker(trials: int) -> Worker:
    """The worker that this process is, with as many threads as are its share of the node's cores."""
    context = ray.train.get_context()
    worker = Worker(device=get_device(), rank=context.get_world_rank(), world_size=context.get_world_size())
    if worker.device.type == "cpu":
        # Ray sets one thread for a fraction of a CPU; the processes of a node share its cores instead.
        processes = context.get_local_world_size() * trials
        torch.set_num_threads(max(usable_cores() // processes, 1))
    return worker


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
