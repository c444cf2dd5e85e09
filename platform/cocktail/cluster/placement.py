"""Placement of processes on the nodes of a cluster: whether a run fits, with the numbers, before it starts."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util import placement_group_table

from cocktail.types import UsageError

_ROUNDING = 1e-6
KINDS = ("CPU", "GPU")
AUTOSCALING = "COCKTAIL_AUTOSCALING"
"""Set where the cluster grows: to the file of its node types that `ray up` writes on the head, or, where there is none
such, to 1."""
_LESS = "Lower --resources.num-workers or --resources.cpus-per-worker, change --resources.gpu, or "


@dataclass(frozen=True)
class Node:
    """A node that is up, and what Ray has to give on it."""

    name: str
    resources: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'{self.resources.get(kind, 0.0):g} {kind}s' for kind in KINDS)})"


@dataclass(frozen=True)
class Demand:
    """Processes alike that have to run at once, each within one node."""

    what: str
    count: int
    each: Mapping[str, float]

    def __str__(self) -> str:
        needs = ", ".join(f"{amount:g} {kind}s" for kind, amount in self.each.items() if amount)
        return f"{self.count} x {self.what} ({needs} each)"


def cluster_nodes() -> list[Node]:
    """The cluster's nodes that are up."""
    return [Node(node["NodeManagerHostname"], node["Resources"]) for node in ray.nodes() if node["Alive"]]


def nodes_with_room(cpus: float) -> list[str]:
    """Ray's ids of the nodes that are up and have so many CPUs beside what processes hold for good, in one order for
    all who ask."""
    held = Counter[str]()
    for group in placement_group_table().values():
        if group["state"] == "CREATED":
            for number, node in group["bundles_to_node_id"].items():
                held[node] += group["bundles"][number].get("CPU", 0.0)
    nodes = {node["NodeID"]: node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]}
    return sorted(node for node, amount in nodes.items() if amount - held[node] + _ROUNDING >= cpus)


def place(
    nodes: Sequence[Node],
    demands: Sequence[Demand],
    *,
    otherwise: str = f"set {AUTOSCALING}=1 on a cluster that grows",
) -> list[list[str]]:
    """Processes that each node takes, each process where it fits first, as Ray packs them. The nodes are taken as idle.

    Raises UsageError, with the numbers and what to do `otherwise`, if there is no place for all of it.
    """
    left = [dict(node.resources) for node in nodes]
    taken: list[list[str]] = [[] for _ in nodes]
    for demand in demands:
        for number in range(demand.count):
            for free, names in zip(left, taken, strict=True):
                if all(free.get(kind, 0.0) + _ROUNDING >= amount for kind, amount in demand.each.items()):
                    for kind, amount in demand.each.items():
                        free[kind] = free.get(kind, 0.0) - amount
                    names.append(demand.what)
                    break
            else:
                raise UsageError(
                    f"there is no place for {' and '.join(map(str, demands))} at once: {number} of {demand.count} "
                    f"{demand.what} fit on {_in_words(nodes)}. {_LESS}{otherwise}"
                )
    return taken


def _in_words(nodes: Sequence[Node]) -> str:
    counts = Counter(map(str, nodes))
    return ", ".join(f"{count} x {node}" if count > 1 else node for node, count in counts.items())


def fits(nodes: Sequence[Node], demands: Sequence[Demand]) -> bool:
    """Whether there is a place for all of it at once, on idle nodes."""
    try:
        place(nodes, demands)
    except UsageError:
        return False
    return True


def copies_that_fit(nodes: Sequence[Node], demands: Sequence[Demand]) -> int:
    """Number of times that there is a place for all of it at once, on idle nodes."""
    for copies in itertools.count(1):
        if not fits(nodes, [*demands] * copies):
            return copies - 1
    raise AssertionError("no cluster is endless")


def grows() -> bool:
    """Whether the cluster is said to add nodes when they are asked for (COCKTAIL_AUTOSCALING)."""
    return bool(os.environ.get(AUTOSCALING))


def largest_cluster() -> list[Node]:
    """Nodes of a growing cluster that has all it may have of each type; none if it is not said what types there are,
    or what each has.

    Raises UsageError if the file that COCKTAIL_AUTOSCALING names is not one of node types.
    """
    path = Path(os.environ.get(AUTOSCALING, "")).expanduser()
    if not path.is_absolute() or not path.exists():  # 1; or a node that is not the head
        return []
    try:
        config = json.loads(path.read_text())
        head, types = config["head_node_type"], config["available_node_types"]
        counts = {name: kind.get("max_workers", config.get("max_workers", 0)) for name, kind in types.items()}
        counts[head] += 1
        if not all(kind.get("resources") for kind in types.values()):  # their nodes tell Ray when they are up
            return []
        return [Node(name, kind["resources"]) for name, kind in types.items() for _ in range(counts[name])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{AUTOSCALING} is {path}, which does not say what node types the cluster has: name the "
            "ray_bootstrap_config.yaml that `ray up` wrote, or 1"
        ) from error


def require_place(demands: Sequence[Demand]) -> None:
    """Raise UsageError, with the numbers, if the cluster, as large as it may grow, has no place for all of it at
    once."""
    if not grows():
        place(cluster_nodes(), demands)
    elif largest := largest_cluster():
        place(largest, demands, otherwise="raise max_workers, or add a node type, in cluster.yaml")
