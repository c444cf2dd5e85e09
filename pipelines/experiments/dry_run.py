"""The whole plan of a run, for people, before anything is trained or recorded."""

from __future__ import annotations

import dataclasses

from cocktail.checkpoints.store import checkpoint_store, step_of
from cocktail.cluster.placement import cluster_nodes, grows, place, require_place
from cocktail.config.resources import Resources
from cocktail.train.measure import LESS_MEMORY, Measured, measure_steps
from cocktail.train.ray_train import require_continuable
from cocktail.types import UsageError
from pipelines.experiments.class_spectra import num_training_clips_to_read
from pipelines.experiments.planned import PlannedRun


def tell(planned: PlannedRun) -> str:
    """Text of what a run would do, on what, where, for how long, by a few steps that are taken and forgotten.

    Raises UsageError, with the numbers, if the cluster, or the memory of its GPUs, has no place for it.
    """
    require_continuable(planned.folder, planned.identity)
    require_place(planned.training_demands)
    require_place(planned.test_demands)
    newest = checkpoint_store(planned.folder).newest()
    lines = {"run": f"{planned.name}, in {planned.folder}", "data": _data(planned)}
    if num_clips := num_training_clips_to_read(planned.experiment, planned.manifest):
        lines["first"] = f"the mean spectra of classes: all sound of {num_clips} clips"
    if planned.batches_per_epoch is None:
        lines |= {"training": "none, this model is not trained: the evaluation alone", "place": _places(planned)}
    else:
        inline = dataclasses.replace(planned.source, executor="inline")
        measured = measure_steps(planned.experiment, inline, len(planned.manifest.classes), planned.gpus)
        lines |= {
            "start": planned.initial.description if newest is None else newest,
            "training": _training(planned, planned.batches_per_epoch),
            "place": _places(planned),
            "memory": _memory(planned, measured),
            "time": _time(planned, measured),
        }
    return "\n".join(["", *(f"{name:10}{text}" for name, text in lines.items()), "nothing was trained or recorded"])


def _data(planned: PlannedRun) -> str:
    manifest = planned.manifest
    text = f"{manifest.folder} (hash {manifest.root_hash[:16]}), {len(manifest.classes)} classes; "
    if planned.validation_list is not None:
        text += f"{len(planned.validation_list)} validation mixtures; "
    return f"{text}{len(planned.test_list)} test mixtures"


def _steps_done(planned: PlannedRun) -> int:
    newest = checkpoint_store(planned.folder).newest()
    return 0 if newest is None else step_of(newest)


def _training(planned: PlannedRun, per_epoch: int) -> str:
    training, steps = planned.experiment.training, planned.num_steps
    done = _steps_done(planned)
    begins = f"from step {done}" if done else "from the first step"
    epochs = f"{steps / per_epoch:.2f} epochs of {per_epoch} steps"
    return f"{steps} steps of {training.batch_size} mixtures, {epochs}, {begins}"


def _places(planned: PlannedRun) -> str:
    nodes, demands = cluster_nodes(), planned.training_demands or planned.test_demands
    needs = " and ".join(map(str, demands))
    if grows():
        return f"{needs}, on nodes that the cluster starts"
    lines = [f"{needs}; on idle nodes:"]
    for node, taken in zip(nodes, place(nodes, demands), strict=True):
        counts = [f"{taken.count(demand.what)} x {demand.what}" for demand in demands if demand.what in taken]
        lines.append(f"{'':10}{node}: {', '.join(counts) or 'nothing'}")
    return "\n".join(lines)


def _memory(planned: PlannedRun, measured: Measured) -> str:
    training = planned.experiment.training
    kept = f"{training.keep_checkpoints} checkpoints{' and the best' * (training.select == 'best')}"
    return (
        f"{measured.num_parameters / 1e6:.1f} M parameters; a step of one worker takes {measured.peak_bytes / 1e9:.1f} "
        f"GB at most ({measured.device}){_on_card(planned.experiment.resources, measured)}; {kept} of "
        f"{measured.checkpoint_bytes / 1e6:.0f} MB are kept"
    )


def _on_card(resources: Resources, measured: Measured) -> str:
    """What a worker needs of its GPU's memory, beside what there is; "" on a CPU. Raises UsageError for too much."""
    if measured.card_bytes is None:
        return ""
    workers = resources.fewest_workers  # whose share was measured
    needed, there = measured.needed_bytes(workers), measured.card_bytes
    parts = f"with the GPU's context{' and NCCL' if workers > 1 else ''}"
    if needed > there:
        raise UsageError(
            f"a worker needs about {needed / 1e9:.1f} GB {parts}, and {measured.device} has {there / 1e9:.1f} GB. "
            f"{LESS_MEMORY}"
        )
    return f", {needed / 1e9:.1f} of the card's {there / 1e9:.1f} GB {parts}"


def _time(planned: PlannedRun, measured: Measured) -> str:
    left = planned.num_steps - _steps_done(planned)
    hours = left * measured.seconds_per_step / 3600
    estimate = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
    step = f"{measured.seconds_per_step:.2f} s a step"
    resources = planned.experiment.resources
    workers = resources.fewest_workers
    alone = ", without the exchange of gradients between workers" if workers > 1 else ""
    fewest = f" with {workers} of {resources.num_workers} workers" if resources.is_elastic else ""
    return f"{step}, measured{alone}: {estimate} of training{fewest}, then the evaluation"
