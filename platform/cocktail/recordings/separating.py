"""A recording separated, piece by piece, in memory that does not grow with its length.

A model with masks hears the mean of the channels, and its masks, put together over all windows, are laid on each
channel at the recording's own rate (`cocktail.recordings.file_grid`). One without hears each channel by itself, and its
waveforms are put together and brought to the recording's rate.

Shape letters: B windows, C channels, N stems, K classes of the model, T samples, L samples of a window, A what is
answered of it, R rows and M frames of masks, W windows of the recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cocktail.media.recording import Recording
from cocktail.recordings.asking import Asked, require_finite_answer, to_numpy
from cocktail.recordings.assembling import ByMasks, ByWaveforms
from cocktail.recordings.hearing import Progress, hear, in_batches, no_progress
from cocktail.recordings.planning import BATCH_SIZE, Plan
from cocktail.recordings.shown import Pictures, Shown
from cocktail.recordings.windows import WindowGrid
from cocktail.types import NO_CLASS, Separation


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Samples of a recording, and of the stems, one behind the other."""

    samples: np.ndarray
    """float32 [C, T]."""
    stems: np.ndarray
    """float32 [N, C, T]."""


@dataclass
class Findings:
    """What was noticed on the way."""

    starts: list[int] = field(default_factory=list)
    presence: list[np.ndarray] = field(default_factory=list)


def separate(
    asked: Asked,
    recording: Recording,
    plan: Plan,
    grid: WindowGrid,
    batch_size: int = BATCH_SIZE,
    findings: Findings | None = None,
    progress: Progress = no_progress,
    shown: np.ndarray | None = None,
    soft_masks: bool = False,
) -> Iterator[Piece]:
    """The stems of a plan, as they get ready, for the recording's samples in order; together they are as long as it.

    `findings` gets the windows and, of a model that says it, what it hears in them. A model that looks sees pictures of
    the recording, or those that are `shown`, the same all the time: uint8 [N, H, W, 3], or [N, P, H, W, 3] of P each.
    `soft_masks` leaves masks as they are where the model cuts them.
    """
    findings = Findings() if findings is None else findings
    by_masks = asked.separating.masks is not None
    making = ByMasks(asked, recording, plan, soft_masks) if by_masks else ByWaveforms(asked, recording, plan)
    pictures = None
    if plan.num_seen:
        number = 1 if plan.in_one_picture else plan.num_seen
        pictures = Pictures(asked, recording, plan.starts, grid, number) if shown is None else Shown(shown)
    waiting = np.zeros((recording.num_channels, 0), np.float32)
    steps = hear(recording, grid, asked.sample_rate_hz, each_channel=not by_masks)
    most = max(batch_size // (1 if by_masks else recording.num_channels), 1)
    for samples, starts, windows in in_batches(steps, most):
        waiting = np.concatenate([waiting, samples], axis=1)
        if starts:
            first = len(findings.starts)
            seen = None if pictures is None else pictures.of(len(starts), windows.shape[1])
            answer = _ask(asked, plan, windows, first, seen)
            if "presence" in answer.intermediates:
                heard = to_numpy(answer.intermediates["presence"])
                means = list(heard.reshape(len(starts), -1, heard.shape[-1]).mean(axis=1))
                for start, of_window in zip(starts, means, strict=True):
                    require_finite_answer(asked, start, of_window)
                findings.presence += means
            findings.starts += starts
            making.add_answers(starts, answer, _active_in(plan, first, len(starts)), windows.shape[1])
        stems = making.add_samples(samples)
        yield Piece(samples=waiting[:, : stems.shape[-1]], stems=stems)
        waiting = waiting[:, stems.shape[-1] :]
        progress(samples.shape[1] / recording.sample_rate_hz)
    stems = making.finish(waiting.shape[1])
    yield Piece(samples=waiting, stems=stems)


def _active_in(plan: Plan, first: int, count: int) -> np.ndarray:
    """Which stems sound in windows, bool [B, N]."""
    return np.ones((count, len(plan.names)), bool) if plan.active is None else plan.active[first : first + count]


def _ask(asked: Asked, plan: Plan, windows: np.ndarray, first: int, pictures: np.ndarray | None) -> Separation:
    """The answer to windows [B, C, L], flattened to [B C, ...], for the stems that sound in them.

    Of classes, a window's sources are its stems in order, and then NO_CLASS.
    """
    B, C, L = windows.shape
    if plan.class_ids is None:
        return asked.separate(windows.reshape(-1, L), None, plan.num_asked, pictures)
    rows = [
        [plan.class_ids[n] for n in np.flatnonzero(active)] for active in _active_in(plan, first, B) for _ in range(C)
    ]
    room = max(1, *map(len, rows))
    rows = [row + [NO_CLASS] * (room - len(row)) for row in rows]
    flat = windows.reshape(-1, L)
    if pictures is not None and asked.names_unseen:
        return asked.separate_scene(flat, rows, pictures)
    return asked.separate(flat, rows, pictures=pictures)
