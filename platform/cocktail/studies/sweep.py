"""A sweep as its report sees it: trials, settings of one or more seeds, their scores, and paired differences.

A sweep is a parent run whose tags name the grids, and a run a trial (`Sweep.of` says which tags). Trials that differ in
nothing but their seed are one setting. A setting's score is the mean over its finished seeds and over the mixtures
that all of them have scores of; trials that did not finish count in no score, and are listed.

Shape letters: S seeds, M mixtures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np

from cocktail.metrics.intervals import Interval, Recordings
from cocktail.studies.paper import Paper
from cocktail.studies.scored_run import ScoredRun
from cocktail.studies.trial import RunT, Tracked, Trial
from cocktail.tasks.scores import Scoreboard, ScoreGroup
from cocktail.types import UsageError


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """Trials that differ in nothing but their seed."""

    label: str
    changes: Mapping[str, Any]
    trials: tuple[Trial, ...]

    @cached_property
    def seeds(self) -> dict[str, Trial]:
        """The trials whose scores count, by seed; of two of one seed, the one started last."""
        return {trial.seed: trial for trial in self.trials if trial.counts}

    @property
    def params(self) -> Mapping[str, str]:
        """Settings that the first trial that has any was made with."""
        return next((trial.params for trial in self.trials if trial.params), {})

    def value(self, path: str) -> Any:
        """What a dotted path is set to; as text where the setting leaves it alone, nothing if that is not known."""
        return self.changes.get(path, self.params.get(path, ""))

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """Summaries by score, without scores that no mixture has; empty if no seed has finished."""
        trials = list(self.seeds.values())
        boards = [trial.run.board for trial in trials if trial.run is not None]
        scores = {score.name: score for board in boards for group in board.groups for score in group.scores}
        summaries = {}
        for score in scores.values():
            recordings, values = score_matrix(trials, score.name)
            if values.size:
                summaries[score.name] = Summary.of(values, recordings, score.mean_interval(values, recordings))
        return summaries


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A setting's score, or how far it is from another's, in its unit."""

    mean: float
    by_seed: list[float]
    spread: float | None
    """Standard deviation over seeds (of n - 1); None for one."""
    interval: Interval | None
    """95 % interval by recording, and by seed where there are several; of one, it is of that seed alone. None where
    `why_no_interval` says so."""
    why_no_interval: str
    num_mixtures: int
    """Mixtures that all seeds have the score of."""
    num_recordings: int | None
    """Recordings that these are made of; None if that is not known."""

    @classmethod
    def of(cls, values: np.ndarray, recordings: Recordings, interval: Interval | None) -> Summary:
        """The summary of a score's values [S, M], or of differences, whose mean has such an interval."""
        by_seed = values.mean(axis=1)
        return cls(
            mean=float(values.mean()),
            by_seed=by_seed.tolist(),
            spread=float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
            interval=interval,
            why_no_interval=recordings.why_none,
            num_mixtures=values.shape[1],
            num_recordings=recordings.number,
        )


def score_matrix(trials: Sequence[Trial], score: str) -> tuple[Recordings, np.ndarray]:
    """The recordings of the mixtures that all trials have a score of, and the scores [trials, M] in their unit."""
    scored = [set(trial.scores.get(score, ())) for trial in trials]
    names = sorted(set.intersection(*scored)) if scored else []
    recordings = Recordings([trials[0].recordings[name] for name in names])
    values = np.array([[trial.scores[score][name] for name in names] for trial in trials], np.float64)
    return recordings, values.reshape(len(trials), len(names))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A setting less the reference, under the seeds that both have finished, on the mixtures that all of these have.

    Intervals are by recording, and by seed where there are several; of one, they are of that seed alone.
    """

    setting: Setting
    summaries: Mapping[str, Summary]
    """How far apart the two are in each score of a group that mixtures of both have."""
    seeds: list[str]
    share_better: float
    """Share of the mixtures whose headline score is above the reference's."""
    problem: str = ""
    """Why there are no differences."""


def difference(setting: Setting, reference: Setting, group: ScoreGroup) -> Difference:
    """How far a setting is from the reference in the scores of a group."""
    own, others = setting.seeds, reference.seeds
    seeds = [seed for seed in others if seed in own]
    summaries: dict[str, Summary] = {}
    share = float("nan")
    for score in group.scores:
        recordings, values = score_matrix([trials[seed] for trials in (own, others) for seed in seeds], score.name)
        if not values.size:
            continue
        differences = values[: len(seeds)] - values[len(seeds) :]
        interval = score.difference_interval(differences, recordings)
        summaries[score.name] = Summary.of(differences, recordings, interval)
        if score == group.headline:
            share = float((differences.mean(axis=0) > 0).mean())
    problem = ""
    if not summaries:
        problem = "no mixture in common" if seeds else "no finished seed in common"
    return Difference(setting=setting, summaries=summaries, seeds=seeds, share_better=share, problem=problem)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A parent run and its trials."""

    run_id: str
    name: str
    tags: Mapping[str, str]
    grids: list[list[str]]
    """The dotted paths that each grid varies."""
    num_planned: int | None
    """Trials that there were to be."""
    trials: list[Trial]
    """Trials in the order in which they were started."""
    recorded_paper: Paper | None = None
    """The paper whose tables the sweep was made for, if it recorded one."""

    @classmethod
    def of(
        cls,
        parent: Tracked,
        children: Sequence[RunT],
        scored: Callable[[RunT], ScoredRun | None],
        paper: Paper | None = None,
    ) -> Sweep:
        """A sweep out of its runs, with the paper that it recorded; `scored` gives a run's results, or None if it has
        none.

        The parent's tags are `sweep.grid`, a JSON list of lists of dotted paths, and `sweep.trials`; a trial's are
        `trial.label`, `trial.overrides`, a JSON object of what it changes by dotted path, and, once it has ended,
        `trial.status`. Raises UsageError if the run is no sweep, or has no trials.
        """
        tags = parent.tags
        if "sweep.grid" not in tags:
            raise UsageError(f"run {parent.name} ({parent.run_id}) is no sweep: give the name or id of a sweep's run")
        stages = {stage.run_id for child in children for stage in child.earlier_stages}  # of trials that went on
        trials = [
            Trial.of(child, scored)
            for child in children
            if "trial.overrides" in child.tags and child.run_id not in stages
        ]
        if not trials:
            raise UsageError(f"sweep {parent.name} ({parent.run_id}) has no trials yet: report it when some have begun")
        return cls(
            run_id=parent.run_id,
            name=parent.name,
            tags=tags,
            grids=json.loads(tags["sweep.grid"]),
            num_planned=int(tags["sweep.trials"]) if "sweep.trials" in tags else None,
            trials=trials,
            recorded_paper=paper,
        )

    @cached_property
    def settings(self) -> list[Setting]:
        """Settings in the grids' order: by grid, then by value, numbers ascending and words as they were started."""
        grouped: dict[str, list[Trial]] = {}
        for trial in self.trials:
            grouped.setdefault(json.dumps(dict(trial.changes), sort_keys=True), []).append(trial)
        labels = [_label(trials) for trials in grouped.values()]
        settings = [
            Setting(
                label=label if labels.count(label) == 1 else f"{label} {changes}",
                changes=trials[0].changes,
                trials=tuple(trials),
            )
            for label, (changes, trials) in zip(labels, grouped.items(), strict=True)
        ]
        paths = list(dict.fromkeys(path for grid in self.grids for path in grid))
        ranks = {
            path: _ranks([setting.changes[path] for setting in settings if path in setting.changes]) for path in paths
        }

        def place(setting: Setting) -> list[int]:
            grid = next(
                (i for i, grid in enumerate(self.grids) if setting.changes.keys() <= set(grid)), len(self.grids)
            )
            return [grid, *(ranks[path].get(_key(setting.changes.get(path)), -1) for path in paths)]

        return sorted(settings, key=place)

    @cached_property
    def board(self) -> Scoreboard | None:
        """How the trials' results are read; None if there are none. Trials of one experiment have one task."""
        boards = [trial.run.board for trial in self.trials if trial.run is not None]
        return reduce(lambda board, other: board.together(other), boards) if boards else None

    @property
    def groups(self) -> tuple[ScoreGroup, ...]:
        """All scores of trials; none if there are no results."""
        return () if self.board is None else self.board.groups

    @property
    def paper(self) -> Paper | None:
        """The recorded paper, if it prints scores as these."""
        names = {score.name for group in self.groups for score in group.scores}
        paper = self.recorded_paper
        return None if paper is None or names.isdisjoint(paper.printed) else paper

    def is_papers(self, setting: Setting) -> bool:
        """Whether a setting is the paper's own."""
        return self.paper is not None and self.paper.own.row_of(setting.changes, setting.params) is not None

    @cached_property
    def reference(self) -> Setting | None:
        """What others are compared with: the paper's own setting, or the first that has scores; None if none has."""
        scored = [setting for setting in self.settings if setting.summaries]
        papers = [setting for setting in scored if self.is_papers(setting)]
        return next(iter([*papers, *scored]), None)


def _label(trials: Sequence[Trial]) -> str:
    """The trials' label without their seed."""
    label = re.sub(rf"[,;]?\s*\bseed\W*{re.escape(trials[0].seed)}$", "", trials[0].label)
    return label or "base settings"


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _ranks(values: Sequence[Any]) -> dict[str, int]:
    """The place of each value among the others."""
    are_numbers = all(isinstance(value, int | float) for value in values)
    ordered = sorted(set(values)) if are_numbers else values
    return {key: rank for rank, key in enumerate(dict.fromkeys(_key(value) for value in ordered))}


def first_seed(setting: Setting) -> Trial:
    """The trial that stands for a setting with scores where one has to."""
    return next(iter(setting.seeds.values()))
