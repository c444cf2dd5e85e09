"""A sweep in pictures: a score by setting and over a number that was swept, and how all trials learned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cocktail.report.figures import LONGEST_LABEL, shorten
from cocktail.report.learning import LOOKS, scale_steps
from cocktail.report.learning import SCORES as LOOK_SCORES
from cocktail.studies.sweep import Setting
from cocktail.tasks.scores import Score

PAPER_LABEL = "paper (its own data and scale)"
LINE_STYLES = ("-", "--", ":", "-.")


def settings_figure(
    settings: Sequence[Setting],
    score: Score,
    controls: Mapping[str, float],
    paper: Mapping[str, float] | None = None,
) -> Figure:
    """The mean of a score of each setting by its label, with its 95 % interval and a dot a seed.

    `controls` are drawn as lines, `paper` (values by label) as empty diamonds. Settings without scores keep their
    place, empty.
    """
    figure = Figure(figsize=(8.5, 1.7 + 0.42 * len(settings)), layout="constrained")
    axis = figure.subplots()
    for place, setting in enumerate(settings):
        summary = setting.summaries.get(score.name)
        if summary is None:
            axis.text(0.01, place, "no scores", transform=axis.get_yaxis_transform(), va="center", color="0.5")
            continue
        if summary.interval is not None:
            axis.plot([summary.interval.low, summary.interval.high], [place] * 2, color="#0072b2", linewidth=2)
        axis.plot(summary.by_seed, [place] * len(summary.by_seed), "o", color="#d55e00", ms=4, alpha=0.8, zorder=3)
        axis.plot([summary.mean], [place], "|", color="#0072b2", markersize=16, markeredgewidth=2.5, zorder=2)
        if paper and setting.label in paper:
            axis.plot([paper[setting.label]], [place], "D", color="0.4", markerfacecolor="none", ms=6)
    for (name, value), style in zip(controls.items(), LINE_STYLES, strict=False):
        axis.axvline(value, color="0.5", linewidth=1, linestyle=style, label=name)
    axis.plot([], [], color="#0072b2", linewidth=2, marker="|", ms=12, label="mean, 95 % by recording and seed")
    axis.plot([], [], "o", color="#d55e00", ms=4, label="single seeds")
    if paper:
        axis.plot([], [], "D", color="0.4", markerfacecolor="none", ms=6, label=PAPER_LABEL)
    axis.set_yticks(range(len(settings)), [_label(setting.label) for setting in settings])
    axis.set(ylim=(len(settings) - 0.4, -0.6), xlabel=f"{score.label} ({score.unit}), higher is better")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    return figure


def numeric_paths(settings: Sequence[Setting], score: Score, paths: Sequence[str]) -> list[str]:
    """The paths that settings with a score have two or more numbers for."""
    scored = [setting for setting in settings if score.name in setting.summaries]
    values = {path: [s.changes[path] for s in scored if path in s.changes] for path in paths}
    return [path for path, each in values.items() if len(set(map(str, each))) > 1 and all(map(_is_number, each))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def path_figure(
    settings: Sequence[Setting], score: Score, path: str, paper: Mapping[str, float] | None = None
) -> Figure:
    """The mean of a score over a number that was swept, a line for each choice of what else was."""
    lines: dict[tuple[tuple[str, str], ...], list[Setting]] = defaultdict(list)
    for setting in settings:
        if path in setting.changes and score.name in setting.summaries:
            others = tuple(sorted((name, str(value)) for name, value in setting.changes.items() if name != path))
            lines[others].append(setting)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    values = sorted({float(setting.changes[path]) for line in lines.values() for setting in line})
    for (others, line), colour in zip(lines.items(), _colours(len(lines)), strict=True):
        ordered = sorted(line, key=lambda setting: setting.changes[path])
        numbers = [(float(setting.changes[path]), setting.summaries[score.name]) for setting in ordered]
        label = ", ".join(f"{name.rpartition('.')[-1]} {value}" for name, value in others) or "mean"
        axis.plot(
            [x for x, _ in numbers],
            [s.mean for _, s in numbers],
            color=colour,
            marker="o",
            label=_label(label),
        )
        bounded = [(x, s.interval) for x, s in numbers if s.interval is not None]
        if len(bounded) > 1:
            lows, highs = zip(*((interval.low, interval.high) for _, interval in bounded), strict=True)
            axis.fill_between([x for x, _ in bounded], lows, highs, color=colour, alpha=0.12, linewidth=0)
        for x, summary in bounded:
            axis.plot([x, x], [summary.low, summary.high], color=colour, linewidth=1)
        for x, summary in numbers:
            axis.plot([x] * len(summary.by_seed), summary.by_seed, ".", color=colour, markersize=5, alpha=0.6)
    known = [
        (float(setting.changes[path]), paper[setting.label])
        for line in lines.values()
        for setting in line
        if paper and setting.label in paper
    ]
    if known:
        axis.plot(*zip(*sorted(known), strict=True), "D", color="0.4", markerfacecolor="none", label=PAPER_LABEL)
    if values[0] > 0 and values[-1] / values[0] >= 4:
        axis.set_xscale("log")
        axis.minorticks_off()
    axis.set_xticks(values, [f"{value:g}" for value in values])
    axis.set(xlabel=path, ylabel=f"{score.label} ({score.unit}), higher is better")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    return figure


def loss_figure(settings: Sequence[Setting], metric: str) -> Figure:
    """A loss of all trials by step, a colour a setting."""
    figure = Figure(figsize=(8.5, 4.4), layout="constrained")
    axis = figure.subplots()
    steps, values = _draw_curves(axis, settings, metric)
    is_wide = min(values) > 0 and max(values) / min(values) >= 10
    if is_wide:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_ylabel(f"{metric}{' (log)' if is_wide else ''}, lower is better")
    if min(steps) <= 2:
        scale_steps(axis, min(steps), max(steps), None)
    else:  # a logarithm would spend half of the width on steps without a point
        axis.set(xlabel="step", xlim=(0, max(steps) * 1.02))
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    return figure


def looks_figure(settings: Sequence[Setting]) -> Figure | None:
    """Recognition of classes of all trials by step, a row for what is classified; None if no trial looked."""
    metrics = {trial_metric for setting in settings for trial in setting.trials for trial_metric in trial.histories}
    rows = [what for what in LOOKS if any(f"look/{what}_{score}" in metrics for score in LOOK_SCORES)]
    if not rows:
        return None
    figure = Figure(figsize=(11, 0.8 + 2.6 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(LOOK_SCORES), squeeze=False, sharey=True)
    for what, line in zip(rows, axes, strict=True):
        for score, axis in zip(LOOK_SCORES, line, strict=True):
            steps, _ = _draw_curves(axis, settings, f"look/{what}_{score}")
            axis.set_title(f"{LOOKS[what]}: {'F1' if score == 'f1' else score}", fontsize="medium")
            axis.set_ylim(-0.02, 1.02)
            if steps:
                scale_steps(axis, min(steps), max(steps), None)
            axis.grid(alpha=0.3)
    handles = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize="small", frameon=False
    )
    return figure


def _draw_curves(axis: Any, settings: Sequence[Setting], metric: str) -> tuple[list[int], list[float]]:
    """Draw a metric's curves, and give the steps and values that they hold."""
    steps: list[int] = []
    values: list[float] = []
    for setting, colour, style in zip(settings, _colours(len(settings)), _styles(len(settings)), strict=True):
        label = _label(setting.label)
        for trial in setting.trials:
            if points := trial.histories.get(metric):
                marker = "o" if len(points) == 1 else ""
                axis.plot(*zip(*points, strict=True), color=colour, linestyle=style, marker=marker, lw=1.3, label=label)
                label = "_"  # one entry in the legend a setting
                steps += [step for step, _ in points]
                values += [value for _, value in points if np.isfinite(value)]
    return steps, values


def _colours(count: int) -> list[Any]:
    palette = matplotlib.colormaps["tab10"]
    return [palette(i % 10) for i in range(count)]


def _styles(count: int) -> list[str]:
    """Another line for each ten settings, as the colours come again."""
    return [LINE_STYLES[i // 10 % len(LINE_STYLES)] for i in range(count)]


def _label(text: str) -> str:
    return shorten(text, LONGEST_LABEL)
