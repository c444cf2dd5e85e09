"""What fits where, and what the refusal says."""

import pytest

from cocktail.cluster.placement import Demand, Node, place
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
