"""Which node renders what: each window's shards are fetched by one node, and nodes that join get their share."""

import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.cluster_utils import Cluster

from cocktail.config.mixing import Mixing
from pipelines.mixtures.spread import Nodes, _batches_of, choose_node, render_on_cluster
from pipelines.mixtures.stream import MOST_BATCHES_A_TASK, TASK_BYTES, MixtureStream, batches_a_task
from pipelines.plans.plan import EpochPlan, PlannedBatches
from pipelines.plans.pool import usable_clips
from pipelines.shards.cache import ShardCache
from tests.made.corpora.toy_shards import RATE, make_toy_shards

PROJECT = Path(__file__).resolve().parents[3]
MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=2)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"), num_shards=40, clips_per_shard=4)


def batches_of(manifest, epoch: int = 0, **settings) -> PlannedBatches:
    plan = EpochPlan(pool=usable_clips(manifest, replace(MIXING, **settings), "train"), seed=0, epoch=epoch)
    return PlannedBatches(plan, np.arange(0, len(plan) - 3, 4), 4)


def test_a_node_is_given_what_it_holds_most_of_but_no_more_than_the_others():
    held = {"a": {"1", "2", "3"}, "b": {"4"}}
    assert choose_node({"1", "2", "4"}, ["a", "b"], {"a": 0, "b": 0}, held) == "a"
    assert choose_node({"1", "2", "4"}, ["a", "b"], {"a": 1, "b": 0}, held) == "b"
    assert choose_node({"9"}, ["a", "b"], {"a": 2, "b": 2}, held) == "a"


def test_four_nodes_fetch_a_quarter_of_the_shards_each(manifest):
    fetched: dict[str, list[int]] = {}
    nodes, names = Nodes(), ["a", "b", "c", "d"]
    for epoch in range(3):
        before = {name: set(nodes.held.get(name, ())) for name in names}
        for stretch in batches_of(manifest, epoch).stretches(1, 500, by_window=True):
            nodes.give(set().union(*stretch.shards()), names)
        for name in names:
            fetched.setdefault(name, []).append(len(set(nodes.held[name]) - before[name]))
    assert [counts[0] for counts in fetched.values()] == [10] * 4
    # Later epochs have other windows: a node holds some of their shards, and takes those of which it holds most.
    assert sum(counts[1] for counts in fetched.values()) < 30
    assert all(sum(counts) <= 40 for counts in fetched.values())


def test_a_shard_that_a_nodes_cache_has_no_room_for_any_more_is_not_counted():
    nodes = Nodes(most_held=2)
    for shard in ("1", "2", "1", "3"):  # 2 was read longest ago
        nodes.give({shard}, ["a"])
    assert list(nodes.held["a"]) == ["1", "3"]
    nodes.give({"4", "5", "6"}, ["a"])
    assert len(nodes.held["a"]) == 2


def test_a_node_holds_as_many_shards_as_its_cache_has_room_for(manifest):
    settings = {"mixing": MIXING, "split": "train", "seed": 0, "batch_size": 4}
    total = sum(size for _, size in manifest.shards.values())
    half = MixtureStream(folder=manifest.folder, cache=ShardCache(max_bytes=total // 2), **settings)
    assert half._nodes.most_held in (19, 20)


def test_a_node_that_joins_is_given_its_share_from_then_on(manifest):
    nodes = Nodes()
    for n in range(20):
        nodes.give({str(n)}, ["a", "b"])
    given = Counter(nodes.give({str(n)}, ["a", "b", "c"]) for n in range(30))
    assert given == {"a": 10, "b": 10, "c": 10}
    assert Counter(nodes.give({str(n)}, ["c"]) for n in range(3)) == {"c": 3}, "others are gone"


def test_what_a_task_rendered_is_cut_into_its_batches():
    rows = [pa.table({"mixture_id": list(names)}) for names in ("ab", "cd", "ef", "g")]
    rendered = iter(
        [{"name": np.array(list("abcd")), "at": np.arange(8).reshape(4, 2)}, {"name": np.array(["e", "f", "g"])}]
    )
    batches = list(_batches_of([rows[:2], rows[2:]], rendered))
    assert [table for table, _ in batches] == rows
    assert [columns["name"].tolist() for _, columns in batches] == [list("ab"), list("cd"), list("ef"), ["g"]]
    assert batches[1][1]["at"].tolist() == [[4, 5], [6, 7]]


def test_a_task_renders_as_many_batches_as_come_to_some_megabytes():
    heard = Mixing(num_sources=2, segment_samples=32767)
    a_mixture = 2 * 2 * 32767
    assert batches_a_task(heard, 8) == TASK_BYTES // (8 * a_mixture) == 4
    assert batches_a_task(heard, 80) == 1 and batches_a_task(heard, 1) == MOST_BATCHES_A_TASK
    seen = replace(heard, pictures_per_source=3, picture_side=224)
    assert batches_a_task(seen, 4) == TASK_BYTES // (4 * (a_mixture + 2 * 3 * 3 * 224 * 224)) == 1


def where(rows: pa.Table) -> dict[str, np.ndarray]:
    """In place of rendering: where it happened, and from when to when."""
    begin = time.time()
    time.sleep(0.2)
    node = np.array([ray.get_runtime_context().get_node_id()] * len(rows))
    return {"node": node, "begin": np.full(len(rows), begin), "end": np.full(len(rows), time.time())}


@pytest.fixture
def growing():
    """A cluster of one node with one CPU, to which others can be added."""
    if ray.is_initialized():
        pytest.skip("this process has another cluster")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False}
    )
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "platform")])
    ray.init(address=cluster.address, runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_a_node_that_joins_in_mid_epoch_renders_and_the_order_is_kept(manifest, growing):
    batches = batches_of(manifest, mixtures_per_epoch=1600)
    expected = [rows["mixture_id"].to_pylist() for rows in batches.rows()]
    seen, nodes, times = [], [], []
    for number, (rows, columns) in enumerate(render_on_cluster(batches, where, prefetch=2, cpus=1.0, nodes=None)):
        if number == 2:
            growing.add_node(num_cpus=2)
        seen.append(rows["mixture_id"].to_pylist())
        nodes.append(columns["node"][0])
        times.append((columns["begin"][0], columns["end"][0]))
    assert seen == expected
    assert len(set(nodes[:3])) == 1
    assert len(set(nodes)) == 2
    at_once = [sum(begin <= moment < end for begin, end in times) for moment, _ in times]
    assert max(at_once[:3]) == 1
    assert max(at_once) > 1, "nothing bounds the tasks by what the cluster had at the start"


@pytest.mark.slow
@pytest.mark.filterwarnings("error:.*(scheduling_strategy|ray_remote_args).*deprecated")
def test_windows_go_to_different_nodes_and_each_is_rendered_on_one(manifest, growing, monkeypatch):
    monkeypatch.setattr("pipelines.mixtures.spread.SHORTEST_STRETCH", 1)
    growing.add_node(num_cpus=1)
    batches = batches_of(manifest)
    rendered = render_on_cluster(batches, where, prefetch=2, cpus=0.5, nodes=Nodes())
    nodes = [columns["node"][0] for _, columns in rendered]
    windows = batches.plan.windows(batches.starts).tolist()
    by_window: dict[int, set[str]] = {}
    for window, node in zip(windows, nodes, strict=True):
        by_window.setdefault(window, set()).add(node)
    assert all(len(names) == 1 for names in by_window.values())
    assert Counter(name for names in by_window.values() for name in names).most_common() == [
        (name, 10) for name, _ in Counter(nodes).most_common()
    ]
    first = replace(batches, starts=batches.starts[:4])
    gone = Nodes()
    gone.give = lambda shards, nodes: "0" * 56
    seen = [
        rows["mixture_id"].to_pylist() for rows, _ in render_on_cluster(first, where, prefetch=2, cpus=0.5, nodes=gone)
    ]
    assert len(seen) == len(first), "what was bound to a node that is lost runs on another"
