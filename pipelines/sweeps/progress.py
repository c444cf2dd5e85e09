"""What is shown of a sweep: how far its trials are, and in the end their scores. Pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cocktail.config.evaluation import Evaluation
from cocktail.report.markdown import INTERVAL, format_cell, markdown_table
from cocktail.tasks.localization.tables import percent
from cocktail.train.ray_tune import TrialState

_TITLES = {
    "sdr": "SDR", "sir": "SIR", "sar": "SAR",
    "ap": "AP", "iou": "IoU", "cap": "CAP", "piap": "PIAP", "ciou": "CIoU", "auc": "AUC",
}  # fmt: skip
"""Scores by the names that reports of runs log them by, in the order of columns; those but the first three are in
[0, 1], and shown in percent."""
_IN_DB = ("sdr", "sir", "sar")
_HEADLINES = ("sdr", "auc")
_SHOWN_WAITING = 2
"""Trials that have not begun and have a row each: of a long sweep the rest has one row."""
_NAME = re.compile(rf"({'|'.join(_TITLES)})(?:_(\d+)_sources)?")


@dataclass(frozen=True, order=True)
class _Column:
    """A score of trials that is there."""

    num_sources: int
    """Of the mixtures; 0 if its name does not say."""
    place: int
    kind: str
    end: str
    """What its name has behind the kind."""

    @classmethod
    def all_of(cls, trials: Sequence[TrialState]) -> list[_Column]:
        """Those that any of the trials has, by number of sources."""
        columns = set()
        for name in {name for trial in trials for name in trial.metrics}:
            if match := _NAME.fullmatch(name):
                kind, number = match[1], int(match[2] or 0)
                columns.add(cls(number, list(_TITLES).index(kind), kind, name.removeprefix(kind)))
        return sorted(columns)

    def title(self, evaluations: Sequence[Evaluation]) -> str:
        """With the threshold of what counts as found, if all tests have the same."""
        of = f", {self.num_sources} source{'s' if self.num_sources > 1 else ''}" if self.num_sources else ""
        at = ""
        if self.kind in ("iou", "ciou"):
            which = "single_threshold" if self.num_sources == 1 else "multi_threshold"
            thresholds = {getattr(evaluation, which) for evaluation in evaluations}
            at = f"@{thresholds.pop():g}" if len(thresholds) == 1 else "@t"
        return _TITLES[self.kind] + at + of

    def cell(self, trial: TrialState) -> str:
        return self._shown(trial.metrics.get(f"{self.kind}{self.end}"))

    def has_interval(self, trials: Sequence[TrialState]) -> bool:
        return any(map(self.interval, trials))

    def interval(self, trial: TrialState) -> str:
        """By recording. Trials that did not log how many recordings there are had intervals by mixture: not shown."""
        if f"num_recordings{self.end}" not in trial.metrics:
            return ""
        ends = [self._shown(trial.metrics.get(f"{self.kind}_{end}{self.end}")) for end in ("low", "high")]
        return " to ".join(ends) if all(ends) else ""

    def _shown(self, value: float | None) -> str:
        return format_cell(value) if self.kind in _IN_DB else percent(value)


def progress_table(trials: Sequence[TrialState], overrides: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a trial: what it sets, how far it is, its last loss, and its SDR in dB, or AUC in percent, once any is
    scored. Of a system in stages the steps of the finished ones stand before those of the one that trains. The next of
    those that have not begun have rows, the others are counted."""
    new = [
        trial.label for trial in trials if trial.status == "waiting" and not trial.metrics and not trial.earlier_steps
    ]
    later = new[_SHOWN_WAITING:] if len(new) > _SHOWN_WAITING + 1 else []
    scores = [column for column in _Column.all_of(trials) if column.kind in _HEADLINES]
    rows = []
    for trial in trials:
        if trial.label in later:
            continue
        known = trial.metrics
        per_step, left = known.get("seconds_per_step"), None
        if per_step is not None and "num_steps" in known and trial.status == "running":
            left = (known["num_steps"] - known["step"]) * per_step / 60
        steps = f"{trial.step}/{known['num_steps']:.0f}" if "num_steps" in known else ""
        steps = f"{trial.earlier_steps} + {steps}" if trial.earlier_steps and steps else steps
        cells = (
            _loss(known.get("loss/total")),
            *(column.cell(trial) for column in scores),
            format_cell(per_step),
        )
        set_to = " ".join(
            f"{path.rpartition('.')[2]}={_shown(value)}" for path, value in overrides[trial.label].items()
        )
        shown_left = "" if left is None else f"{left:.1f}"
        rows.append([trial.label, set_to, trial.status, steps, *cells, shown_left])
    titles = [column.title([]) for column in scores]
    if later:
        rows.append([f"{len(later)} more", "", "waiting", *[""] * (len(titles) + 4)])
    return markdown_table(["trial", "sets", "status", "step", "loss", *titles, "s/step", "min left"], rows)


def _loss(value: float | None) -> str:
    """Two digits of what is small: squared errors of waveforms are thousandths."""
    return format_cell(value) if value is None or not 0 < abs(value) < 0.1 else f"{value:.2g}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def score_table(labels: Sequence[str], trials: Sequence[TrialState], evaluations: Sequence[Evaluation]) -> str:
    """A row a trial, under these labels: scores in dB or percent, with 95 % intervals by recording where there are any,
    each of that trial's one seed. `evaluations` say how they were tested."""
    columns = _Column.all_of(trials)
    header = ["trial"]
    for column in columns:
        title = column.title(evaluations)
        header += [title, INTERVAL] if column.has_interval(trials) else [title]
    rows = []
    for label, trial in zip(labels, trials, strict=True):
        ended = f"{trial.status}: {trial.error}" if trial.error else trial.status
        if trial.status == "stopped early":
            ended += f" at step {trial.step}"
        row = [label]
        for column in columns:
            row += [column.cell(trial), column.interval(trial)] if column.has_interval(trials) else [column.cell(trial)]
        rows.append([*row, ended])
    return markdown_table([*header, "status"], rows)
