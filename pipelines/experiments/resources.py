"""Demands of a run on the cluster."""

from __future__ import annotations

from cocktail.cluster.placement import Demand
from cocktail.config.resources import Resources
from cocktail.evaluate import APPLYING_CPUS, SCORING_CPUS
from pipelines.mixtures.stream import RENDER_CPUS


def training_demands(resources: Resources, gpus: bool) -> list[Demand]:
    """Demands of a training, all at once."""
    workers = resources.min_workers or resources.num_workers
    each = {"CPU": resources.cpus_per_worker, "GPU": 1.0 if gpus else 0.0}
    rendering = [Demand("rendering task", workers, {"CPU": RENDER_CPUS})] if resources.executor == "ray" else []
    return [Demand("training process", workers, each), *rendering]


def test_demands(num_gpus: int) -> list[Demand]:
    """Demands of an evaluation, all at once."""
    testing = {"CPU": APPLYING_CPUS, "GPU": 1.0 if num_gpus else 0.0}
    return [
        Demand("testing process", max(num_gpus, 1), testing),
        Demand("scoring task", 1, {"CPU": SCORING_CPUS}),
    ]
