"""What fits where, and what the refusal says."""

import json

import pytest
import ray

from cocktail.cluster import placement
from cocktail.cluster.placement import (
    Demand,
    Node,
    fits,
    largest_cluster,
    nodes_with_room,
    place,
    require_place,
)
from cocktail.types import UsageError

LARGE, SMALL = Node("large", {"CPU": 4.0, "GPU": 2.0}), Node("small", {"CPU": 1.0})
WORKERS = Demand("training process", 2, {"CPU": 1.0, "GPU": 1.0})


def test_each_process_goes_where_it_fits_first():
    tasks = Demand("rendering task", 3, {"CPU": 1.0})
    assert place([SMALL, LARGE], [WORKERS, tasks]) == [
        ["rendering task"],
        ["training process", "training process", "rendering task", "rendering task"],
    ]


def test_the_sum_is_not_enough_where_no_node_has_room_for_one():
    nodes = [SMALL, Node("other", {"CPU": 1.0})]
    with pytest.raises(UsageError, match=r"0 of 1 training process fit on small \(1 CPUs, 0 GPUs\), other"):
        place(nodes, [Demand("training process", 1, {"CPU": 2.0})])


def test_tenths_of_cpus_add_up():
    assert place([SMALL], [Demand("task", 10, {"CPU": 0.1})]) == [["task"] * 10]
    with pytest.raises(UsageError, match="10 of 11 task fit"):
        place([SMALL], [Demand("task", 11, {"CPU": 0.1})])


def test_a_refusal_names_all_that_is_needed_and_what_fits():
    more = Demand("training process", 3, {"CPU": 1.0, "GPU": 1.0})
    with pytest.raises(
        UsageError,
        match=r"no place for 3 x training process \(1 CPUs, 1 GPUs each\) and 1 x rendering task \(0\.5 CPUs each\) at "
        r"once: 2 of 3 training process fit on large \(4 CPUs, 2 GPUs\).*--resources\.num-workers",
    ):
        place([LARGE], [more, Demand("rendering task", 1, {"CPU": 0.5})])


@pytest.fixture
def growing(tmp_path, monkeypatch):
    """An empty cluster that may have two nodes with four GPUs and eight with none, as `ray up` writes it down."""
    monkeypatch.setattr(ray, "nodes", list)
    types = {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "gpu_worker": {"resources": {"CPU": 48, "GPU": 4}, "max_workers": 2},
        "cpu_worker": {"resources": {"CPU": 16}},
    }
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(json.dumps({"head_node_type": "head", "available_node_types": types, "max_workers": 8}))
    monkeypatch.setenv("COCKTAIL_AUTOSCALING", str(path))
    return path


def test_a_growing_cluster_is_as_large_as_its_node_types_let_it(growing):
    names = [node.name for node in largest_cluster()]
    assert names == ["head", "gpu_worker", "gpu_worker", *["cpu_worker"] * 8]


def test_what_a_growing_cluster_could_never_hold_is_refused_at_once(growing):
    require_place([Demand("training process", 8, {"CPU": 1.0, "GPU": 1.0})])
    with pytest.raises(
        UsageError,
        match=r"8 of 9 training process fit on head .*, 2 x gpu_worker \(48 CPUs, 4 GPUs\), 8 x cpu_worker .*raise "
        "max_workers, or add a node type",
    ):
        require_place([Demand("training process", 9, {"CPU": 1.0, "GPU": 1.0})])
    with pytest.raises(UsageError, match="0 of 1 training process fit"):
        require_place([Demand("training process", 1, {"CPU": 1.0, "GPU": 8.0})])


def test_a_cluster_that_grows_without_saying_how_refuses_nothing(monkeypatch):
    monkeypatch.setattr(ray, "nodes", list)
    monkeypatch.setenv("COCKTAIL_AUTOSCALING", "1")
    require_place([Demand("training process", 1000, {"GPU": 8.0})])


@pytest.mark.parametrize("of_workers", [{"max_workers": 2}, {"max_workers": 2, "resources": {}}])
def test_a_node_type_that_does_not_say_what_it_has_refuses_nothing(growing, of_workers):
    types = {"head": {"resources": {"CPU": 4}, "max_workers": 0}, "worker": of_workers}
    growing.write_text(json.dumps({"head_node_type": "head", "available_node_types": types}))
    require_place([Demand("training process", 1, {"GPU": 8.0})])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"head_node_type": "a", "available_node_types": {"b": {}}}'])
def test_a_file_that_is_not_of_node_types_is_named(growing, text):
    growing.write_text(text)
    with pytest.raises(UsageError, match=f"COCKTAIL_AUTOSCALING is {growing}, which does not say what node types"):
        largest_cluster()


def test_whether_demands_fit():
    assert fits([LARGE], [WORKERS])
    assert not fits([SMALL], [WORKERS])


def test_a_node_whose_cpus_are_all_held_for_good_has_no_room(monkeypatch):
    up = [("a", 2.0, True), ("b", 2.0, True), ("gone", 8.0, False), ("head", 0.0, True), ("c", 1.0, True)]
    nodes = [{"NodeID": name, "Resources": {"CPU": cpus}, "Alive": alive} for name, cpus, alive in up]
    nodes[3]["Resources"] = {}
    group = {
        "bundles": {0: {"CPU": 1.5}, 1: {"CPU": 0.5}, 2: {"GPU": 1}},
        "bundles_to_node_id": {0: "b", 1: "a", 2: "c"},
    }
    groups = {"1": {**group, "state": "CREATED"}, "2": {**group, "state": "REMOVED"}}
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(placement, "placement_group_table", lambda: groups)
    assert nodes_with_room(1.0) == ["a", "c"]
    assert nodes_with_room(0.5) == ["a", "b", "c"]
