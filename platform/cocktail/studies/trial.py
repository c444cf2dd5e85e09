"""One trial of a sweep as its report sees it: what it changes, what became of it, and its scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from cocktail.report.learning import History
from cocktail.studies.scored_run import ScoredRun

SEED = "seed"
SYSTEM = "system"
"""What a sweep over systems varies: no setting of theirs, but the name that each is shown by."""
FINISHED = "finished"
CURVES = ("loss/", "validation/", "look/")
_LOSS, _SPEED = "loss/total", "training_seconds_per_step"


class Tracked(Protocol):
    """A run as tracking knows it (`cocktail.tracking.run.TrackedRun`)."""

    run_id: str

    @property
    def name(self) -> str: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def params(self) -> Mapping[str, str]: ...
    @property
    def status(self) -> str: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def earlier_stages(self) -> Sequence[Tracked]: ...
    def histories(self, prefixes: tuple[str, ...]) -> dict[str, list[tuple[int, float]]]: ...


RunT = TypeVar("RunT", bound=Tracked)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One training with its evaluation."""

    run_id: str
    name: str
    label: str
    changes: Mapping[str, Any]
    """Changes to the base settings by dotted path, without the seed."""
    seed: str
    status: str
    """`finished`, or what became of it instead."""
    tags: Mapping[str, str]
    params: Mapping[str, str]
    """All of its settings as text, by dotted path; nothing if it failed before they were written."""
    stages: tuple[str, ...]
    """Names of the runs of the stages before its own, of a system that learns in stages; steps and time count them."""
    steps: int
    """Training steps that were logged."""
    seconds: float | None
    """Duration from start to end."""
    seconds_per_step: float | None
    """Median duration of a training step over the log lines; of several stages, the mean over their steps."""
    histories: Mapping[str, History]
    """The curves of its losses and looks."""
    run: ScoredRun | None
    """Its results, if it has any."""
    scores: Mapping[str, Mapping[str, float]]
    """Values by score and mixture, in the score's unit; mixtures that do not count have none."""
    recordings: Mapping[str, tuple[str | None, ...]]
    """The recording of each source by mixture; None where nobody said."""
    num_mixtures: Mapping[str, int]
    """Mixtures in its results, by the headline of their group."""

    @classmethod
    def of(cls, tracked: RunT, scored: Callable[[RunT], ScoredRun | None]) -> Trial:
        tags, params = tracked.tags, tracked.params
        changes = json.loads(tags["trial.overrides"])
        seed = str(changes.pop(SEED, params.get(SEED, "")))
        status = tags.get("trial.status", f"not ended: MLflow says {tracked.status}")
        run = scored(tracked)
        if run is None and status == FINISHED:
            status = "finished, but without results"
        scores, recordings, num_mixtures = ({}, {}, {}) if run is None else _scores_of(run)
        histories = tracked.histories((*CURVES, _SPEED))
        runs = [*tracked.earlier_stages, tracked]
        lengths = [run.seconds for run in runs]
        steps, speed = _steps_and_speed([*(run.histories((_LOSS, _SPEED)) for run in runs[:-1]), histories])
        histories.pop(_SPEED, None)
        return cls(
            run_id=tracked.run_id,
            name=tracked.name,
            label=tags.get("trial.label", tracked.name),
            changes=changes,
            seed=seed,
            status=status,
            tags=tags,
            params=params,
            stages=tuple(run.name for run in runs[:-1]),
            steps=steps,
            seconds=None if None in lengths else sum(length or 0 for length in lengths),
            seconds_per_step=speed,
            histories=histories,
            run=run,
            scores=scores,
            recordings=recordings,
            num_mixtures=num_mixtures,
        )

    @property
    def counts(self) -> bool:
        """Whether its scores are part of its setting's."""
        return self.status == FINISHED


def _steps_and_speed(stages: Sequence[Mapping[str, History]]) -> tuple[int, float | None]:
    """The steps of all stages, and the seconds of one of them; None if a stage with steps does not say."""
    steps = [points[-1][0] if (points := stage.get(_LOSS)) else 0 for stage in stages]
    speeds = [points[-1][1] if (points := stage.get(_SPEED)) else None for stage in stages]
    known = [(number, speed) for number, speed in zip(steps, speeds, strict=True) if number and speed is not None]
    total = sum(steps)
    if not total or sum(number for number, _ in known) < total:
        return total, None
    return total, sum(number * speed for number, speed in known) / total


def _scores_of(
    run: ScoredRun,
) -> tuple[dict[str, dict[str, float]], dict[str, tuple[str | None, ...]], dict[str, int]]:
    board = run.board
    mixtures = board.mixtures(run.results, run.own_system)
    names = mixtures["mixture_id"].to_pylist()
    scores = {
        score.name: {
            name: value
            for name, value in zip(names, mixtures[score.name].to_pylist(), strict=True)
            if value is not None
        }
        for group in board.groups
        for score in group.scores
    }
    recordings = dict(zip(names, map(tuple, mixtures["recordings"].to_pylist()), strict=True))
    return scores, recordings, {group.headline.name: group.num_mixtures(mixtures) for group in board.groups}
