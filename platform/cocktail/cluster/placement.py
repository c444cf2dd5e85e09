"""Placement of processes on the nodes of a cluster: whether a run fits, with the numbers, before it starts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray

from cocktail.types import UsageError

_ROUNDING = 1e-6
KINDS = ("CPU", "GPU")


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


def place(nodes: Sequence[Node], demands: Sequence[Demand]) -> list[list[str]]:
    """Processes that each node takes, each process where it fits first, as Ray packs them. The nodes are taken as idle.

    Raises UsageError, with the numbers, if there is no place for all of it.
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
                    f"{demand.what} fit on {', '.join(map(str, nodes))}. Lower --resources.num-workers or "
                    "--resources.cpus-per-worker, change --resources.gpu, or set COCKTAIL_AUTOSCALING=1 on a cluster "
                    "that grows"
                )
    return taken


def copies_that_fit(nodes: Sequence[Node], demands: Sequence[Demand]) -> int:
    """Number of times that there is a place for all of it at once, on idle nodes."""
    for copies in itertools.count(1):
        try:
            place(nodes, [*demands] * copies)
        except UsageError:
            return copies - 1
    raise AssertionError("no cluster is endless")


def grows() -> bool:
    """Whether the cluster is said to add nodes when they are asked for (COCKTAIL_AUTOSCALING)."""
    return bool(os.environ.get("COCKTAIL_AUTOSCALING"))


def require_place(demands: Sequence[Demand]) -> None:
    """Raise UsageError, with the numbers, if a cluster that does not grow has no place for all of it at once."""
    if not grows():
        place(cluster_nodes(), demands)
