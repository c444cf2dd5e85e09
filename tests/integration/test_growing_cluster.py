"""Mixing asks an autoscaler for nodes, and renders on those that come."""

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from cocktail.config.mixing import Mixing
from pipelines.mixtures.spread import render_on_cluster
from pipelines.plans.plan import EpochPlan, PlannedBatches
from pipelines.plans.pool import usable_clips
from tests.made.corpora.toy_shards import RATE, make_toy_shards
from tests.services.growing_cluster import growing_cluster

PROJECT = Path(__file__).resolve().parents[2]
MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, mixtures_per_epoch=600)


def where(rows: pa.Table) -> dict[str, np.ndarray]:
    """In place of rendering: the node that would have rendered."""
    time.sleep(0.5)
    return {"node": np.array([ray.get_runtime_context().get_node_id()] * len(rows))}


@pytest.mark.slow
def test_mixing_asks_the_autoscaler_for_nodes_and_renders_on_them(tmp_path):
    if ray.is_initialized():
        pytest.skip("this process has another cluster")
    manifest = make_toy_shards(tmp_path / "toy", num_shards=4, clips_per_shard=4)
    plan = EpochPlan(pool=usable_clips(manifest, MIXING, "train"), seed=0, epoch=0)
    batches = PlannedBatches(plan, np.arange(0, len(plan) - 3, 4), 4)
    with growing_cluster(tmp_path, most_nodes=2) as address:
        path = os.pathsep.join([str(PROJECT), str(PROJECT / "platform")])
        ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False)
        try:
            before = [node for node in ray.nodes() if node["Alive"]]
            rendered = list(render_on_cluster(batches, where, prefetch=2, cpus=1.0, nodes=None))
        finally:
            ray.shutdown()
    assert len(before) == 1, "the head alone"
    assert [rows["mixture_id"].to_pylist() for rows, _ in rendered] == [
        rows["mixture_id"].to_pylist() for rows in batches.rows()
    ]
    assert len({columns["node"][0] for _, columns in rendered}) == 3, "both nodes came, and rendered"
