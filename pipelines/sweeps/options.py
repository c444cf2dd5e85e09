"""What a sweep is beside its experiment and its grid, and by what name it is found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from cocktail.config.experiment import Experiment, require_name
from cocktail.storage import exists, join, list_names, read_bytes
from cocktail.types import UsageError
from pipelines.experiments.locations import FINISHED
from pipelines.sweeps.grids import PlannedTrial

PLAN = "sweep.json"
"""In a sweep's folder: its key, and the keys of its trials' runs by label."""


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What a sweep is, beside its experiment and its grid."""

    over: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Grid PATH=V1,V2,...: one trial for each value of a setting, times those of other grids; may be given again."""
    seeds: tuple[int, ...] = ()
    """Seeds of training: each trial is run once with each of them. None given is the experiment's own."""
    asha: bool = False
    """Stop the trials early that are worst after equally many steps."""
    asha_metric: str | None = None
    """Metric that ASHA compares, lower is better. None is validation/total if there is a validation split, else
    loss/total, the mean since the last log line."""
    asha_grace_steps: int | None = None
    """Steps that each trial does before ASHA compares it for the first time; None is a ninth of the training."""
    asha_reduction_factor: int = 3
    """Trials of which one goes on each time that ASHA compares them; the next time is after so many times the steps."""
    max_concurrent: int | None = None
    """Trials at a time; None is as many as the cluster holds. Give it on a cluster that grows."""
    sweep_name: str | None = None
    """Name of the sweep; None derives it from the experiment and the grid."""
    again: bool = False
    """Run a finished sweep once more, beside its first run."""

    def __post_init__(self) -> None:
        for name in ("asha_grace_steps", "max_concurrent"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        if self.asha_reduction_factor < 2:
            raise UsageError(f"asha_reduction_factor must be at least 2, not {self.asha_reduction_factor}")
        if self.sweep_name is not None:
            require_name("sweep_name", self.sweep_name)
        if self.sweep_name is not None and self.again:
            raise UsageError("--again makes a name: give another --sweep-name instead")


def sweep_name(base: Experiment, key: str, options: SweepOptions) -> str:
    """The name given, or that of the newest sweep of this key, or of a new one: the first, or --again after one."""
    if options.sweep_name is not None:
        return options.sweep_name
    sweeps, stem = join(base.output, "sweeps"), f"{base.name}-sweep-{key}-"
    ends = [name.removeprefix(stem) for name in list_names(sweeps) if name.startswith(stem)]
    newest = max((int(end) for end in ends if end.isdecimal()), default=0)
    is_finished = newest > 0 and exists(join(sweeps, f"{stem}{newest}", FINISHED))
    return f"{stem}{newest + 1 if newest == 0 or (is_finished and options.again) else newest}"


def key_of(trials: Sequence[PlannedTrial], keys: Mapping[str, str], options: SweepOptions) -> str:
    """Eight hexadecimal digits that name what a sweep comes to."""
    tests = {trial.label: asdict(trial.experiment.evaluation) for trial in trials}
    asha = (options.asha, options.asha_metric, options.asha_grace_steps, options.asha_reduction_factor)
    canonical = json.dumps([keys, tests, asha if options.asha else None], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def require_same(folder: str, key: str, keys: Mapping[str, str]) -> None:
    """Raise UsageError if a sweep of the name is of something else."""
    if not exists(join(folder, PLAN)):
        return
    was = json.loads(read_bytes(join(folder, PLAN)))
    if was["key"] != key:
        other = [label for label in was["trials"].keys() | keys.keys() if was["trials"].get(label) != keys.get(label)]
        shown = f"these trials are not the same: {'; '.join(sorted(other))}" if other else "its tests or ASHA differ"
        raise UsageError(f"{folder} holds another sweep ({shown}): choose another --sweep-name")
