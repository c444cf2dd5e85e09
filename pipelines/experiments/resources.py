"""Demands of a run on the cluster."""

from __future__ import annotations

from typing import Literal

from cocktail.cluster.connection import trials_at_once
from cocktail.cluster.placement import Demand, cluster_nodes, fits, grows
from cocktail.config.experiment import Experiment
from cocktail.config.resources import Resources
from cocktail.evaluate import APPLYING_CPUS, SCORING_CPUS
from pipelines.mixtures.spread import RENDER_CPUS


def executor_of(experiment: Experiment, gpus: bool) -> Literal["ray", "inline"]:
    """The executor that an experiment has on the cluster that is connected."""
    cpu_nodes = any(
        node.resources.get("CPU", 0) >= RENDER_CPUS and not node.resources.get("GPU", 0) for node in cluster_nodes()
    )
    return experiment.resources.chosen_executor(
        gpus=gpus, pictures=experiment.mixing.pictures_per_source > 0, cores_elsewhere=cpu_nodes or grows()
    )


def training_demands(
    resources: Resources, gpus: bool, executor: Literal["ray", "inline"], render_cpus: float = RENDER_CPUS
) -> list[Demand]:
    """Demands of a training, all at once: of the fewest workers that it goes on with, each with one rendering task."""
    workers = resources.fewest_workers
    each = {"CPU": resources.cpus_per_worker, "GPU": 1.0 if gpus else 0.0}
    rendering = [Demand("rendering task", workers, {"CPU": render_cpus})] if executor == "ray" else []
    return [Demand("training process", workers, each), *rendering]


def render_cpus(resources: Resources, gpus: bool, executor: Literal["ray", "inline"]) -> float:
    """CPUs of a rendering task: one, as more tasks than CPUs only get in each other's way; less if there is no place
    for one beside the training processes."""
    trials = trials_at_once() or 1
    roomy = grows() or fits(cluster_nodes(), training_demands(resources, gpus, executor, 1.0) * trials)
    return 1.0 if roomy else RENDER_CPUS


def test_demands(resources: Resources, gpus: bool) -> list[Demand]:
    """Demands of an evaluation, all at once: of as many GPUs as training may have gone on with."""
    testing = {"CPU": APPLYING_CPUS, "GPU": 1.0 if gpus else 0.0}
    return [
        Demand("testing process", resources.fewest_workers if gpus else 1, testing),
        Demand("scoring task", 1, {"CPU": SCORING_CPUS}),
    ]
