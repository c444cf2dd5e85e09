"""Figures of how a model learned: recognition of classes on the way (SGN Fig. 4), and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

LOOKS = {
    "token_macro": "class tokens (macro)",
    "presence_macro": "presence above 0.5 (macro)",
    "presence_micro": "presence above 0.5 (micro)",
    "visual_presence_macro": "presence in the picture (macro)",
    "visual_presence_micro": "presence in the picture (micro)",
    "invisible_macro": "heard and not seen (macro)",
    "invisible_micro": "heard and not seen (micro)",
}
"""Headings of the panels of scores `look/<what>_<average>_<score>`. Each token has one class: micro adds nothing."""
SCORES = {"precision": "#0072b2", "recall": "#d55e00", "f1": "#009e73"}
MOST_IN_A_ROW = 4
"""Panels."""
LOSS_COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Both by Okabe and Ito."""

History = Sequence[tuple[int, float]]
"""A metric's values by step, in order."""


def learning_figure(histories: Mapping[str, History], title: str, steps_per_epoch: int | None = None) -> Figure:
    """Curves of scores (`look/...`, in [0, 1], higher is better) and losses (`loss/...`, `validation/...`) by step.

    A panel for the class tokens, two each for what is heard and seen, one for the losses, those that there are, in two
    rows if they are many. Steps are logarithmic, so that the first ones show; with `steps_per_epoch` there are epochs
    on top. Raises ValueError if there is no panel.
    """
    looks = {
        heading: {score: points for score in SCORES if (points := histories.get(f"look/{what}_{score}"))}
        for what, heading in LOOKS.items()
    }
    looks = {heading: curves for heading, curves in looks.items() if curves}
    losses = {
        name.removeprefix(kind) + ending: points
        for kind, ending in (("loss/", ""), ("validation/", ", validation"))
        for name, points in histories.items()
        if name.startswith(kind) and points
    }
    panels = [*looks.values(), *([losses] if losses else [])]
    if not panels:
        raise ValueError(f"there are no scores look/... and no losses loss/... among {sorted(histories) or 'nothing'}")
    rows = 1 if len(panels) <= MOST_IN_A_ROW else 2
    columns = -(-len(panels) // rows)
    figure = Figure(figsize=(max(4.4 * columns, 5.5), 4.4 * rows), layout="constrained")
    figure.suptitle(title)
    axes, unused = np.split(figure.subplots(rows, columns, squeeze=False).flatten(), [len(panels)])
    for axis in unused:
        figure.delaxes(axis)
    for axis, (heading, curves) in zip(axes, looks.items(), strict=False):
        _draw_scores(axis, curves)
        axis.set_title(heading, fontsize="medium")
    if losses:
        _draw_losses(axes[-1], losses)
        axes[-1].set_title("training losses", fontsize="medium")
    steps = [step for curves in panels for points in curves.values() for step, _ in points]
    for axis in axes:
        scale_steps(axis, min(steps), max(steps), steps_per_epoch)
        axis.grid(alpha=0.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, fontsize="small")
    return figure


def _draw_scores(axis: Any, curves: Mapping[str, History]) -> None:
    """Draw curves of scores so that each shows where they coincide: they become thinner from one to the next."""
    for (score, colour), width in zip(SCORES.items(), (4.5, 2.8, 1.2), strict=True):
        if score in curves:
            label = "F1" if score == "f1" else score
            axis.plot(*zip(*curves[score], strict=True), color=colour, linewidth=width, marker="o", ms=3, label=label)
    axis.set(ylim=(-0.02, 1.02), ylabel="score (higher is better)")


def _draw_losses(axis: Any, losses: Mapping[str, History]) -> None:
    positive = all(value > 0 for points in losses.values() for _, value in points)
    for i, name in enumerate(sorted(losses, key=lambda name: name != "total")):
        points = losses[name]
        marker = "o" if len(points) == 1 else ""  # a line of one point shows nothing
        width, colour = 2 if name == "total" else 1.2, LOSS_COLOURS[i % len(LOSS_COLOURS)]
        axis.plot(*zip(*points, strict=True), color=colour, linewidth=width, marker=marker, label=name)
    if positive:
        axis.set_yscale("log")
    axis.set_ylabel(f"loss{' (log)' if positive else ''}, lower is better")


def scale_steps(axis: Any, first: int, last: int, steps_per_epoch: int | None) -> None:
    """A logarithmic axis, linear below step 1 as there may be a step 0, and its twin in epochs."""
    limits = (0.9 if first > 0 else 0.0, max(last, 2) * 1.15)
    axis.set_xscale("symlog", linthresh=1, linscale=0.3)
    axis.set(xlim=limits, xlabel="step (log)")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:g}"))
    if steps_per_epoch is None:
        return
    epochs = axis.twiny()
    epochs.set_xscale("symlog", linthresh=1 / steps_per_epoch, linscale=0.3)
    epochs.set_xlim(limits[0] / steps_per_epoch, limits[1] / steps_per_epoch)
    smallest, largest = max(1, last / 150) / steps_per_epoch, last / steps_per_epoch
    ticks = [digit * 10.0**power for power in range(-6, 7) for digit in (1, 3)]
    epochs.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if smallest <= tick <= largest]))
    epochs.xaxis.set_major_formatter(FuncFormatter(lambda epoch, _: f"{epoch:g}"))
    epochs.xaxis.set_minor_locator(NullLocator())
    epochs.set_xlabel(f"epoch of {steps_per_epoch} steps (log)")
