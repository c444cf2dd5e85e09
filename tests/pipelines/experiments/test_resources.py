"""What a run takes of a cluster, and where its mixtures are rendered."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cocktail.cluster.placement import Node, place
from cocktail.config.resources import Resources
from cocktail.train.measure import NCCL_BYTES, Measured
from cocktail.types import UsageError
from pipelines.experiments import resources as demands
from pipelines.experiments import scoring
from pipelines.experiments.dry_run import _on_card
from pipelines.experiments.planned import PlannedRun
from pipelines.experiments.resources import (
    executor_of,
    render_cpus,
    require_room_to_render,
    test_demands,
    training_demands,
)
from pipelines.experiments.scoring import gpus_of
from pipelines.mixtures.stream import PlanAhead, rendering_threads
from tests.made.models.small_experiment import SMALL

test_demands.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]
TWO_GPUS = [Node("gpu", {"CPU": 8.0, "GPU": 2.0})]
ELASTIC = Resources(num_workers=4, min_workers=2)


def test_what_an_elastic_run_trains_on_is_enough_to_test_on(monkeypatch):
    for needed in (training_demands(ELASTIC, True, "ray"), test_demands(ELASTIC, True)):
        place(TWO_GPUS, needed)
    with pytest.raises(UsageError, match="there is no place"):
        place(TWO_GPUS, test_demands(replace(ELASTIC, min_workers=None), True))
    monkeypatch.setattr(scoring, "uses_gpus", lambda resources: True)
    assert gpus_of(ELASTIC) == (2, 4)
    assert gpus_of(Resources(num_workers=3)) == (3, 3)
    monkeypatch.setattr(scoring, "uses_gpus", lambda resources: False)
    assert gpus_of(ELASTIC) == (0, 0)


@pytest.mark.parametrize(
    ("num_workers", "min_workers", "cpus"),
    # All workers that Ray Train may start count: seven hold 3.5 of the four CPUs, and a task of a whole one never runs.
    [(2, None, 1.0), (2, 1, 1.0), (7, 2, 0.5), (4, 2, 0.5)],
)
def test_a_rendering_task_has_a_place_beside_all_workers_of_an_elastic_run(
    monkeypatch, tmp_path, num_workers, min_workers, cpus
):
    resources = Resources(num_workers=num_workers, min_workers=min_workers)
    monkeypatch.delenv("COCKTAIL_AUTOSCALING", raising=False)
    monkeypatch.setattr(demands, "cluster_nodes", lambda: [Node("node", {"CPU": 4.0})])
    assert render_cpus(resources, False, "ray") == cpus
    require_room_to_render(resources, False, "ray", cpus)
    # A cluster that may grow no further than that is the same; one that does not say how far takes the least.
    types = {"head": {"resources": {"CPU": 4}, "max_workers": 0}}
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(json.dumps({"head_node_type": "head", "available_node_types": types}))
    monkeypatch.setattr(demands, "cluster_nodes", list)
    monkeypatch.setenv("COCKTAIL_AUTOSCALING", str(path))
    assert render_cpus(resources, False, "ray") == cpus
    monkeypatch.setenv("COCKTAIL_AUTOSCALING", "1")
    assert render_cpus(resources, False, "ray") == 0.5


def test_a_place_is_sought_for_rendering_tasks_as_large_as_they_will_be():
    run: Any = SimpleNamespace(
        experiment=replace(SMALL, resources=Resources(num_workers=2)),
        gpus=False,
        source=SimpleNamespace(executor="ray", render_cpus=1.0),
    )
    getter: Any = PlannedRun.training_demands
    assert getter.fget(run) == training_demands(Resources(num_workers=2), False, "ray", 1.0)


def test_an_elastic_run_that_would_take_all_cpus_for_training_is_refused(monkeypatch):
    monkeypatch.delenv("COCKTAIL_AUTOSCALING", raising=False)
    monkeypatch.setattr(demands, "cluster_nodes", lambda: [Node("node", {"CPU": 4.0})])
    greedy = Resources(num_workers=9, min_workers=2)
    with pytest.raises(UsageError, match=r"would start 8 training processes .*lower --resources\.num-workers to 7"):
        require_room_to_render(greedy, False, "ray", 0.5)
    require_room_to_render(greedy, False, "inline", 0.5)
    require_room_to_render(Resources(num_workers=7, min_workers=2), False, "ray", 0.5)


@pytest.mark.parametrize(
    ("gpus", "pictures", "elsewhere", "chosen"),
    [
        (False, False, False, "ray"),
        (False, True, True, "ray"),
        (True, False, False, "inline"),
        (True, False, True, "inline"),
        (True, True, False, "inline"),
        (True, True, True, "ray"),
    ],
)
def test_one_process_feeds_its_gpu_unless_pictures_can_be_decoded_elsewhere(gpus, pictures, elsewhere, chosen):
    asked = {"gpus": gpus, "pictures": pictures, "cores_elsewhere": elsewhere, "shares_node": False}
    assert Resources().chosen_executor(**asked) == chosen
    for executor in ("ray", "inline"):
        assert Resources(executor=executor).chosen_executor(**asked) == executor


@pytest.mark.parametrize("pictures", [False, True])
def test_trials_that_share_the_cores_of_a_node_render_for_themselves(pictures):
    asked = {"pictures": pictures, "cores_elsewhere": True, "shares_node": True}
    assert Resources().chosen_executor(gpus=False, **asked) == "inline"
    assert Resources().chosen_executor(gpus=True, **asked) == ("ray" if pictures else "inline")
    assert Resources(executor="ray").chosen_executor(gpus=False, **asked) == "ray"


def test_cores_are_elsewhere_where_a_node_has_no_gpu_or_may_come(monkeypatch):
    seen = replace(SMALL, mixing=replace(SMALL.mixing, pictures_per_source=1))
    monkeypatch.delenv("COCKTAIL_AUTOSCALING", raising=False)
    for nodes, chosen in (
        (TWO_GPUS, "inline"),
        ([*TWO_GPUS, Node("cpu", {"CPU": 16.0})], "ray"),
        ([*TWO_GPUS, Node("head", {"CPU": 0.0})], "inline"),
    ):
        monkeypatch.setattr(demands, "cluster_nodes", lambda nodes=nodes: nodes)
        assert executor_of(seen, gpus=True) == chosen
        assert executor_of(SMALL, gpus=True) == "inline"
    monkeypatch.setenv("COCKTAIL_AUTOSCALING", "1")
    assert executor_of(seen, gpus=True) == "ray"


def test_a_trial_asks_whether_others_are_on_its_node(monkeypatch):
    monkeypatch.setattr(demands, "cluster_nodes", lambda: [Node("one", {"CPU": 2.0})])
    for trials, chosen in ((1, "ray"), (2, "inline")):
        monkeypatch.setattr(demands, "trials_a_node", lambda trials=trials: trials)
        assert executor_of(SMALL, gpus=False) == chosen


@pytest.mark.parametrize(
    ("cores", "processes", "trials", "pictures", "threads"),
    [
        (16, 1, 1, 1, 16),
        (16, 4, 1, 1, 4),
        (16, 2, 2, 1, 4),
        (2, 4, 1, 1, 1),
        (16, 1, 1, 0, 2),
        (16, 16, 1, 0, 1),
        (128, 1, 1, 1, 16),  # each thread holds a batch
    ],
)
def test_rendering_threads_are_the_process_s_share_of_the_cores(
    monkeypatch, cores, processes, trials, pictures, threads
):
    monkeypatch.setattr("pipelines.mixtures.stream.usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert rendering_threads(replace(SMALL.mixing, pictures_per_source=pictures), trials) == threads


def test_a_plan_that_was_begun_is_made_once_and_any_other_when_it_is_asked_for():
    made: list[int] = []
    plans = PlanAhead(lambda epoch: made.append(epoch) or epoch)  # pyright: ignore[reportArgumentType]
    assert plans.take(3) == 3
    plans.begin(4)
    plans.begin(4)
    assert plans.take(4) == 4
    assert made == [3, 4]
    plans.begin(5)
    assert plans.take(7) == 7
    assert plans.take(5) == 5
    assert sorted(made) == [3, 4, 5, 7], "what another epoch asks for throws nothing away"


def on_card(num_workers: int, peak_gb: float, card_gb: float | None, min_workers: int | None = None) -> str:
    measured = Measured(
        device="a card",
        seconds_per_step=1.0,
        cpu_seconds_per_step=1.0,
        num_parameters=250_000_000,
        checkpoint_bytes=0,
        peak_bytes=int(peak_gb * 1e9),
        outside_bytes=500_000_000,
        card_bytes=None if card_gb is None else int(card_gb * 1e9),
    )
    return _on_card(Resources(num_workers=num_workers, min_workers=min_workers), measured)


def test_what_a_worker_needs_is_compared_with_its_card():
    assert on_card(1, 30.0, None) == ""
    assert on_card(1, 9.4, 10.0) == ", 9.9 of the card's 10.0 GB with the GPU's context"
    with pytest.raises(UsageError, match=r"needs about 10\.1 GB .* a card has 10\.0 GB\. Raise --training\.accumulate"):
        on_card(1, 9.6, 10.0)
    # A worker among several keeps a gradient of four bytes for each parameter, and NCCL's buffers.
    assert on_card(2, 5.0, 10.0).startswith(f", {5.0 + 0.5 + 1.0 + NCCL_BYTES / 1e9:.1f} of the card's 10.0 GB")
    with pytest.raises(UsageError, match="with the GPU's context and NCCL, and a card has"):
        on_card(2, 8.0, 10.0)
    # The fewest workers of an elastic run have the largest shares; one alone exchanges nothing.
    assert on_card(4, 9.4, 10.0, min_workers=1).endswith("10.0 GB with the GPU's context")
