"""Demands of a run on the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from cocktail.cluster.connection import trials_a_node, trials_at_once
from cocktail.cluster.placement import Demand, cluster_nodes, fits, grows, largest_cluster
from cocktail.config.experiment import Experiment
from cocktail.config.resources import Resources
from cocktail.evaluate import APPLYING_CPUS, SCORING_CPUS
from cocktail.types import UsageError
from pipelines.mixtures.spread import RENDER_CPUS
from pipelines.shards.cache import ShardCache


def shard_cache(resources: Resources) -> ShardCache:
    """The cache of shards that settings ask for."""
    return ShardCache(max_bytes=int(resources.cache_gb * 1e9), chosen_folder=resources.cache_folder)


def executor_of(experiment: Experiment, gpus: bool) -> Literal["ray", "inline"]:
    """The executor that an experiment has on the cluster that is connected."""
    cpu_nodes = any(
        node.resources.get("CPU", 0) >= RENDER_CPUS and not node.resources.get("GPU", 0) for node in cluster_nodes()
    )
    return experiment.resources.chosen_executor(
        gpus=gpus,
        pictures=experiment.mixing.pictures_per_source > 0,
        cores_elsewhere=cpu_nodes or grows(),
        shares_node=trials_a_node() > 1,
    )


def training_demands(
    resources: Resources, gpus: bool, executor: Literal["ray", "inline"], render_cpus: float = RENDER_CPUS
) -> list[Demand]:
    """Demands of a training, all at once: of the fewest workers that it goes on with, each with one rendering task, of
    `render_cpus` CPUs."""
    workers = resources.fewest_workers
    each = {"CPU": resources.cpus_per_worker, "GPU": 1.0 if gpus else 0.0}
    rendering = [Demand("rendering task", workers, {"CPU": render_cpus})] if executor == "ray" else []
    return [Demand("training process", workers, each), *rendering]


def render_cpus(resources: Resources, gpus: bool, executor: Literal["ray", "inline"]) -> float:
    """CPUs of a rendering task: one, as more tasks than CPUs only get in each other's way; less if there is no place
    for one beside the most training processes that there may be, or where the cluster does not say how far it grows."""
    all_workers = replace(resources, min_workers=None)
    trials = trials_at_once() or 1
    nodes = largest_cluster() if grows() else cluster_nodes()
    return 1.0 if fits(nodes, training_demands(all_workers, gpus, executor, 1.0) * trials) else RENDER_CPUS


def require_room_to_render(
    resources: Resources, gpus: bool, executor: Literal["ray", "inline"], render_cpus: float
) -> None:
    """Raise UsageError if an elastic run would start so many training processes that no rendering task has a place:
    Ray Train starts as many as there is room for, and each would wait for mixtures for ever."""
    nodes = largest_cluster() if grows() else cluster_nodes()
    if executor != "ray" or not resources.is_elastic or not nodes:
        return
    training = training_demands(resources, gpus, "inline")[0]
    rendering = Demand("rendering task", 1, {"CPU": render_cpus})
    starts = [n for n in range(1, resources.num_workers + 1) if fits(nodes, [replace(training, count=n)])]
    feeds = [n for n in starts if fits(nodes, [replace(training, count=n), rendering])]
    if starts and feeds and starts[-1] > feeds[-1]:
        raise UsageError(
            f"an elastic run would start {starts[-1]} training processes ({resources.cpus_per_worker:g} CPUs each) and "
            f"leave no place for a rendering task ({render_cpus:g} CPUs): lower --resources.num-workers to "
            f"{feeds[-1]}, or --resources.cpus-per-worker, or take --resources.executor inline"
        )


def test_demands(resources: Resources, gpus: bool) -> list[Demand]:
    """Demands of an evaluation, all at once: of as many GPUs as training may have gone on with."""
    testing = {"CPU": APPLYING_CPUS, "GPU": 1.0 if gpus else 0.0}
    return [
        Demand("testing process", resources.fewest_workers if gpus else 1, testing),
        Demand("scoring task", 1, {"CPU": SCORING_CPUS}),
    ]
