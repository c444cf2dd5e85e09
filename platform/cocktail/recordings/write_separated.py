"""A recording separated into a folder: stems/NAME.wav, residual.wav, report.html and, last, separation.json."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cocktail.media.recording import Recording
from cocktail.recordings.asking import Asked
from cocktail.recordings.hearing import Progress, no_progress
from cocktail.recordings.overview import MOST_DRAWN, LevelTrack, Overview
from cocktail.recordings.planning import Plan, plan_of, window_grid
from cocktail.recordings.separating import Findings, separate
from cocktail.recordings.separation_page import separation_page
from cocktail.recordings.sources import Choice
from cocktail.recordings.stems import RESIDUAL, Form, Level, StemsWriter
from cocktail.recordings.windows import WindowGrid
from cocktail.report.page import PAGE_NAME, to_html
from cocktail.storage import write_atomic
from cocktail.types import NO_CLASS

SCHEMA = "cocktail-separation/1"
SEPARATION = "separation.json"
"""File that says that all is there: it is written last."""
INPUT = "input"


class _Shown:
    """What the page shows of the input, the stems and the residual, in this order, and their levels over time."""

    def __init__(self, names: tuple[str, ...], sample_rate_hz: int, step: int, drawn: bool) -> None:
        self.overviews = [
            (name, Overview(sample_rate_hz) if drawn and (n <= MOST_DRAWN or name is RESIDUAL) else None)
            for n, name in enumerate((INPUT, *names, RESIDUAL))
        ]
        self.tracks = [LevelTrack(step) for _ in self.overviews]

    def add(self, samples: np.ndarray, stems: np.ndarray, residual: np.ndarray) -> None:
        sounds = (samples, *stems, residual)
        for (_, overview), track, sound in zip(self.overviews, self.tracks, sounds, strict=True):
            track.add(sound)
            if overview is not None:
                overview.add(sound.mean(axis=0))

    @property
    def drawn(self) -> list[tuple[str, Overview]]:
        return [(name, overview) for name, overview in self.overviews if overview is not None]

    def finish(self) -> None:
        for _, overview in self.drawn:
            overview.finish()


def write_separated(
    asked: Asked,
    origin: Any,
    recording: Recording,
    folder: Path,
    choice: Choice,
    form: Form,
    *,
    overlap: float,
    batch_size: int,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Separate a recording into a folder; returns what separation.json holds. `origin` says which model it is."""
    form.require_sound(recording.sample_rate_hz, recording.num_channels)
    on, off = choice.thresholds(asked.separating.presence_threshold)
    grid, findings = window_grid(asked, overlap), Findings()
    plan = plan_of(asked, recording, choice, grid, batch_size, progress)
    rate = recording.sample_rate_hz
    writer = StemsWriter(folder, plan.names, rate, recording.num_channels, form, recording.declared_seconds)
    shown = _Shown(plan.names, rate, max(round(grid.step / asked.sample_rate_hz * rate), 1), form.report)
    try:
        for piece in separate(asked, recording, plan, grid, batch_size, findings, progress, soft_masks=form.soft_masks):
            shown.add(piece.samples, *writer.add(piece.samples, piece.stems))
    finally:
        writer.close()
        shown.finish()
    told = _told(asked, origin, recording, plan, grid, findings, writer, shown)
    told["choice"], told["form"] = {**asdict(choice), "on": on, "off": off}, asdict(form)
    if form.report:
        told["page"] = PAGE_NAME
        page = to_html(f"{recording.name}, separated", separation_page(told, shown.drawn))
        write_atomic(str(folder / PAGE_NAME), page.encode())
    write_atomic(str(folder / SEPARATION), json.dumps(told, indent=1).encode())
    return told


def _told(
    asked: Asked,
    origin: Any,
    recording: Recording,
    plan: Plan,
    grid: WindowGrid,
    findings: Findings,
    writer: StemsWriter,
    shown: _Shown,
) -> dict[str, Any]:
    rate = asked.sample_rate_hz
    presence = np.stack(findings.presence) if findings.presence else plan.presence
    count = len(findings.starts)
    active = np.ones((count, len(plan.names)), bool) if plan.active is None else plan.active
    return {
        "schema": SCHEMA,
        "input": {
            "name": recording.name,
            "seconds": writer.num_samples / recording.sample_rate_hz,
            "sample_rate_hz": recording.sample_rate_hz,
            "num_channels": recording.num_channels,
            "num_samples": writer.num_samples,
            **_levels(writer.input_level),
            "num_clipped": writer.input_clipped,
        },
        "model": model_told(asked, origin),
        "stems": [
            {
                "name": name,
                "class_id": _class_id(plan, n),
                "seen": n < plan.num_seen,
                "file": writer.files[n],
                **_levels(writer.levels[n]),
                "num_clipped": writer.clipped[n],
                "windows_active": int(active[:, n].sum()),
                "mean_presence": _presence_of(presence, plan, n),
            }
            for n, name in enumerate(plan.names)
        ],
        "residual": {"file": writer.residual_file, **_levels(writer.residual_level)},
        "windows": {
            "seconds": grid.length / rate,
            "starts_seconds": [round(start / rate, 6) for start in findings.starts],
            "presence": presence_told(asked.classes, presence, plan.class_ids),
            "visual_presence": presence_told(asked.classes, plan.visual_presence, plan.class_ids),
            "active": {name: active[:, n].astype(int).tolist() for n, name in enumerate(plan.names)},
        },
        "levels": {
            "step_seconds": grid.step / rate,
            "input_dbfs": shown.tracks[0].levels_dbfs,
            "stems_dbfs": [track.levels_dbfs for track in shown.tracks[1:-1]],
            "residual_dbfs": shown.tracks[-1].levels_dbfs,
        },
    }


def model_told(asked: Asked, origin: Any) -> dict[str, Any]:
    """What is recorded of the model."""
    return {
        "name": asked.trained.name,
        "given": getattr(origin, "given", None),
        "location": getattr(origin, "location", None),
        "weights_sha256": getattr(origin, "weights_sha256", None),
        "sample_rate_hz": asked.sample_rate_hz,
    }


def presence_told(
    classes: tuple[str, ...], presence: np.ndarray | None, class_ids: tuple[int, ...] | None, least: float = 0.1
) -> dict[str, list[float]] | None:
    """Probabilities a window of each class that was separated, or reaches `least` somewhere."""
    if presence is None:
        return None
    told = [c for c in range(len(classes)) if presence[:, c].max() >= least or c in (class_ids or ())]
    return {classes[c]: [round(float(value), 4) for value in presence[:, c]] for c in told}


def _presence_of(presence: np.ndarray | None, plan: Plan, n: int) -> float | None:
    class_id = _class_id(plan, n)
    return None if presence is None or class_id is None else round(float(presence[:, class_id].mean()), 4)


def _class_id(plan: Plan, n: int) -> int | None:
    return None if plan.class_ids is None or plan.class_ids[n] == NO_CLASS else plan.class_ids[n]


def _levels(level: Level) -> dict[str, float]:
    return {"rms_dbfs": level.rms_dbfs, "peak_dbfs": level.peak_dbfs}
