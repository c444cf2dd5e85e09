"""What is shown of a sweep: how far its trials are, and in the end their scores. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cocktail.report.tables import format_cell, format_interval, markdown_table
from cocktail.train.ray_tune import Trial


def progress_table(trials: Sequence[Trial], overrides: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a trial: what it sets, how far it is, its last loss, and its SDR, in dB, once it is scored."""
    rows = []
    for trial in trials:
        known = trial.metrics
        per_step, left = known.get("seconds_per_step"), None
        if per_step is not None and "num_steps" in known and trial.status == "running":
            left = (known["num_steps"] - known["step"]) * per_step / 60
        steps = f"{trial.step}/{known['num_steps']:.0f}" if "num_steps" in known else ""
        cells = (known.get("loss/total"), known.get("sdr"), per_step)
        set_to = " ".join(
            f"{path.rpartition('.')[2]}={_shown(value)}" for path, value in overrides[trial.label].items()
        )
        shown_left = "" if left is None else f"{left:.1f}"
        rows.append([trial.label, set_to, trial.status, steps, *map(format_cell, cells), shown_left])
    return markdown_table(["trial", "sets", "status", "step", "loss", "SDR", "s/step", "min left"], rows)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def score_table(labels: Sequence[str], trials: Sequence[Trial]) -> str:
    """A row a trial, under these labels: scores in dB, with the 95 % bootstrap interval of the mean SDR."""
    rows = []
    for label, trial in zip(labels, trials, strict=True):
        scores = trial.metrics
        interval = (scores["sdr_low"], scores["sdr_high"]) if "sdr_low" in scores else None
        sir, sar = (format_cell(scores.get(score)) for score in ("sir", "sar"))
        ended = f"{trial.status}: {trial.error}" if trial.error else trial.status
        if trial.status == "stopped early":
            ended += f" at step {trial.step}"
        rows.append([label, format_cell(scores.get("sdr")), format_interval(interval), sir, sar, ended])
    return markdown_table(["trial", "SDR", "95 % interval", "SIR", "SAR", "status"], rows)
