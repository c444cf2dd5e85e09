"""A video localized into a folder: localized.mp4, pictures/, report.html and, last, localization.json."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cocktail.drawing import to_png
from cocktail.media.recordings import FileRecording
from cocktail.recordings.asking import Asked
from cocktail.recordings.hearing import Progress, no_progress
from cocktail.recordings.localizing import LocalizingPlan, Look, looks, plan_localizing
from cocktail.recordings.overlay_video import overlaid, shrunk_size, write_video
from cocktail.recordings.overview import presence_figure
from cocktail.recordings.sources import Choice
from cocktail.recordings.write_separated import model_told, presence_told
from cocktail.report.page import PAGE_NAME, Heading, Part, Picture, Pictures, Table, Text, to_html
from cocktail.storage import write_atomic

SCHEMA = "cocktail-localization/1"
LOCALIZATION = "localization.json"
"""File that says that all is there: it is written last."""
VIDEO = "localized.mp4"
MOST_PICTURES = 24
"""Pictures that are kept as PNG, evenly over the whole."""
_ON_PAGE = 12


class _Kept:
    """What is kept of the looks: some pictures, and of each map where it is highest."""

    def __init__(self, plan: LocalizingPlan, folder: Path) -> None:
        self._names, self._folder = plan.names, folder
        count = len(plan.seconds)
        kept = np.linspace(0, count - 1, min(count, MOST_PICTURES)).round().astype(int)
        self._kept = set(kept.tolist())
        self._number = 0
        self.pictures: list[tuple[str, bytes, float]] = []
        """Name, PNG and time of each."""
        self.told: list[dict[str, Any]] = []

    def add(self, look: Look) -> None:
        if self._number in self._kept:
            image = look.picture.resize(shrunk_size(*look.picture.size), Image.Resampling.BILINEAR)
            data = io.BytesIO()
            overlaid(image, look.maps, look.active, self._names).save(data, "PNG")
            name = f"pictures/{look.seconds:09.2f}.png"
            write_atomic(str(self._folder / name), data.getvalue())
            self.pictures.append((name, data.getvalue(), look.seconds))
        self._number += 1
        self.told.append(
            {
                "seconds": round(look.seconds, 4),
                "active": [self._names[n] for n in np.flatnonzero(look.active)],
                "peaks": {name: _peak(values) for name, values in zip(self._names, look.maps, strict=True)},
            }
        )


def _peak(values: np.ndarray) -> dict[str, float]:
    """Where a map [H, W] is highest, in widths and heights of the picture from its upper left corner, and its range."""
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    return {
        "x": round((float(x) + 0.5) / values.shape[1], 4),
        "y": round((float(y) + 0.5) / values.shape[0], 4),
        "highest": round(float(values.max()), 5),
        "lowest": round(float(values.min()), 5),
    }


def write_localized(
    asked: Asked,
    origin: Any,
    recording: FileRecording,
    folder: Path,
    choice: Choice,
    maps_per_second: float,
    *,
    batch_size: int,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Localize in a video into a folder; returns what localization.json holds. `origin` says which model it is."""
    plan = plan_localizing(asked, recording, choice, maps_per_second, batch_size, progress)
    folder.mkdir(parents=True, exist_ok=True)
    kept = _Kept(plan, folder)
    looked = looks(asked, recording, plan, batch_size, progress)
    write_video(recording.path, folder / VIDEO, looked, plan.names, kept.add)
    rate = asked.sample_rate_hz
    told = {
        "schema": SCHEMA,
        "input": {
            "name": recording.name,
            "seconds": plan.recording_seconds,
            "sample_rate_hz": recording.sample_rate_hz,
            "num_channels": recording.num_channels,
        },
        "model": model_told(asked, origin),
        "choice": {**asdict(choice), **dict(zip(("on", "off"), plan.thresholds, strict=True))},
        "sources": list(plan.names),
        "video": VIDEO,
        "page": PAGE_NAME,
        "pictures": [name for name, _, _ in kept.pictures],
        "windows": {
            "seconds": plan.grid.length / rate,
            "starts_seconds": [round(start / rate, 6) for start in plan.starts],
            "presence": presence_told(asked.classes, plan.presence, plan.class_ids),
            "active": {name: plan.active[:, n].astype(int).tolist() for n, name in enumerate(plan.names)},
        },
        "maps": kept.told,
    }
    page = to_html(f"{recording.name}, localized", _page(told, plan, kept.pictures))
    write_atomic(str(folder / PAGE_NAME), page.encode())
    write_atomic(str(folder / LOCALIZATION), json.dumps(told, indent=1).encode())
    return told


def _page(told: dict[str, Any], plan: LocalizingPlan, pictures: Sequence[tuple[str, bytes, float]]) -> list[Part]:
    model, choice = told["model"], told["choice"]
    count = len(plan.starts)
    parts: list[Part] = [
        Text(
            f"{plan.recording_seconds:.1f} s, heard and seen by {model['name']} in {count} windows of "
            f"{told['windows']['seconds']:.2f} s with {len(plan.seconds)} pictures. `{VIDEO}` beside this page is the "
            "video with all maps; each map is drawn from half of its own range up."
        ),
        Table(
            ["source", "windows that it sounds in"],
            [[name, f"{int(plan.active[:, n].sum())} of {count}"] for n, name in enumerate(plan.names)],
        ),
        Heading("Maps"),
    ]
    chosen = np.linspace(0, len(pictures) - 1, min(len(pictures), _ON_PAGE)).round().astype(int)
    shown = [pictures[place] for place in chosen]
    parts.append(
        Pictures([Picture(name.rpartition("/")[2], png, f"At {seconds:.2f} s.") for name, png, seconds in shown])
    )
    if plan.presence is not None and plan.class_ids is not None:
        middles = (np.array(plan.starts) + plan.grid.length / 2) / model["sample_rate_hz"]
        presence = plan.presence[:, list(plan.class_ids)]
        figure = presence_figure(plan.names, middles, presence, plan.active, choice["on"], choice["off"])
        parts += [
            Heading("What was seen, and when" if plan.by_sight else "What was heard, and when"),
            Picture("presence.png", to_png(figure, colours=128), "Probability of each class by window."),
        ]
    return parts
