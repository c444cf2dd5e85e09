"""The page of a separated recording: players, spectrograms, and what was heard when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cocktail.drawing import to_png
from cocktail.recordings.overview import (
    MOST_DRAWN,
    PREVIEW_SECONDS,
    Overview,
    levels_figure,
    presence_figure,
    spectrograms_figure,
)
from cocktail.recordings.stems import RESIDUAL
from cocktail.report.markdown import format_decimals
from cocktail.report.page import Heading, Part, Picture, Sound, Sounds, Table, Text
from cocktail.text.printable import as_file_name

COLOURS = 128
_MAX_CLASSES = 20


def separation_page(told: Mapping[str, Any], overviews: Sequence[tuple[str, Overview]]) -> list[Part]:
    """Parts of the page, out of what separation.json holds and what was gathered on the way."""
    parts: list[Part] = [
        Text(_summary(told)),
        _stems_table(told),
        *_scene(told),
        Heading("To listen to"),
        Text(_of_players(told)),
        Sounds(
            [
                Sound(f"{n}-{as_file_name(name)}.mp3", overview.preview, name, "audio/mpeg")
                for n, (name, overview) in enumerate(overviews)
            ]
        ),
        Heading("Spectrograms"),
        Picture(
            "spectrograms.png",
            to_png(spectrograms_figure(overviews), colours=COLOURS),
            "The mean of the channels; each column shows the loudest of its time. All levels are relative to the "
            "loudest bin of the input.",
        ),
    ]
    parts += _over_time(told)
    return parts


def _summary(told: Mapping[str, Any]) -> str:
    given, model, windows = told["input"], told["model"], told["windows"]
    hash_told = "" if model["weights_sha256"] is None else f", weights `{model['weights_sha256'][:12]}`"
    place = "" if model["location"] is None else f" (`{model['location']}`{hash_told})"
    return (
        f"{given['seconds']:.1f} s at {given['sample_rate_hz']} Hz, {given['num_channels']} channels, separated by "
        f"{model['name']}{place}, which hears {model['sample_rate_hz']} Hz, in {len(windows['starts_seconds'])} "
        f"windows of {windows['seconds']:.2f} s. Stems and residual add up to the input"
        + (
            ", but for what MP3 leaves out."
            if told["form"]["format"] == "mp3"
            else ": sample by sample, as far as its samples are those that were written."
        )
        + _of_clipped(given["num_clipped"], sum(stem["num_clipped"] for stem in told["stems"]))
    )


def _scene(told: Mapping[str, Any]) -> list[Part]:
    """What is seen and what is only heard, of a model that says it."""
    visible = told["windows"]["visual_presence"]
    if visible is None:
        return []
    on = told["choice"]["on"]
    windows = len(told["windows"]["starts_seconds"])
    in_sight = {name: int(np.sum(np.array(values) >= on)) for name, values in visible.items()}
    seen = [f"{name} ({count} of {windows} windows)" for name, count in in_sight.items() if count]
    hidden = [
        f"{stem['name']} ({stem['windows_active']} of {windows} windows)" for stem in told["stems"] if not stem["seen"]
    ]
    return [
        Text(
            f"Heard and seen: {', '.join(seen) or 'no class'}. Heard and not seen: {', '.join(hidden) or 'no class'}. "
            "What is in view is separated by pictures, what is not by its class, window by window."
        )
    ]


def _of_clipped(of_input: int, of_stems: int) -> str:
    if not of_input + of_stems:
        return ""
    return (
        f" Beyond full scale, and clipped by 16 bits, were {of_input} samples of the input and {of_stems} of stems: "
        "`--sample-format float` keeps them."
    )


def _stems_table(told: Mapping[str, Any]) -> Table:
    count = len(told["windows"]["starts_seconds"])
    rows = [
        [
            stem["name"],
            stem["file"],
            format_decimals(stem["rms_dbfs"], 1),
            format_decimals(stem["peak_dbfs"], 1),
            f"{stem['windows_active']} of {count}",
            "" if stem["mean_presence"] is None else f"{stem['mean_presence']:.2f}",
        ]
        for stem in told["stems"]
    ]
    residual = told["residual"]
    rows.append(
        [
            RESIDUAL,
            residual["file"],
            format_decimals(residual["rms_dbfs"], 1),
            format_decimals(residual["peak_dbfs"], 1),
            "",
            "",
        ]
    )
    header = ["stem", "file", "level, dBFS", "peak, dBFS", "windows", "mean presence"]
    return Table(header, rows, caption="Levels are root mean squares over the whole length.")


def _of_players(told: Mapping[str, Any]) -> str:
    whole = told["input"]["seconds"] <= PREVIEW_SECONDS
    length = "The whole" if whole else f"The first {PREVIEW_SECONDS:g} s"
    left_out = len(told["stems"]) - MOST_DRAWN
    more = f" {left_out} more stems are in the folder." if left_out > 0 else ""
    return f"{length} of each, in one channel and as MP3; the files beside this page are what counts.{more}"


def _over_time(told: Mapping[str, Any]) -> list[Part]:
    windows, levels = told["windows"], told["levels"]
    parts: list[Part] = []
    if windows["presence"]:
        chosen = {stem["name"] for stem in told["stems"]}
        ranked = sorted(windows["presence"], key=lambda name: (name not in chosen, -max(windows["presence"][name])))
        names = ranked[:_MAX_CLASSES]
        count = len(windows["starts_seconds"])
        presence = np.array([windows["presence"][name] for name in names]).T
        active = np.array([windows["active"].get(name, [0] * count) for name in names], bool).T
        seconds = np.array(windows["starts_seconds"]) + windows["seconds"] / 2
        choice = told["choice"]
        figure = presence_figure(names, seconds, presence, active, choice["on"], choice["off"])
        parts += [
            Heading("What was heard, and when"),
            Picture(
                "presence.png",
                to_png(figure, colours=COLOURS),
                f"Probability of each class by window, and, shaded, where it was separated. Where that decides, a "
                f"class counts from {choice['on']:g} on (dotted) and lasts down to {choice['off']:g}.",
            ),
        ]
    names = [stem["name"] for stem in told["stems"]][:_MAX_CLASSES]
    tracks = levels["stems_dbfs"][:_MAX_CLASSES]
    parts += [
        Heading("Levels of the stems"),
        Picture(
            "levels.png",
            to_png(levels_figure(names, levels["step_seconds"], tracks), colours=COLOURS),
            f"Root mean squares of {levels['step_seconds']:.2f} s each, from -80 dBFS to 0.",
        ),
    ]
    return parts
