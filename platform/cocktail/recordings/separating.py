"""A recording separated, piece by piece, in memory that does not grow with its length.

A model with masks hears the mean of the channels, and its masks, put together over all windows, are laid on each
channel at the recording's own rate (`cocktail.recordings.file_grid`). One without hears each channel by itself, and its
waveforms are put together and brought to the recording's rate.

Shape letters: B windows, C channels, N stems, K classes of the model, T samples, L samples of a window, A what is
answered of it, R rows and M frames of masks, W windows of the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cocktail.media.bad_clips import BadClip
from cocktail.media.recording import Recording
from cocktail.recordings.asking import Asked, require_finite_answer, to_numpy
from cocktail.recordings.file_grid import MaskedRecording
from cocktail.recordings.hearing import Progress, Resampler, hear, in_batches, no_progress
from cocktail.recordings.sources import (
    MOST_STEMS,
    Choice,
    by_hysteresis,
    class_ids_named,
    most_present,
    nothing_heard,
    order_like,
)
from cocktail.recordings.windows import OverlapAdd, WindowGrid
from cocktail.types import NO_CLASS, Separation, UsageError, require

if TYPE_CHECKING:
    from PIL import Image

OVERLAP = 0.5
"""Share of a window's answer that the next one answers, too."""
BATCH_SIZE = 4
"""Windows that are put to a model together."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recording is separated into."""

    names: tuple[str, ...]
    """Names of the N stems."""
    class_ids: tuple[int, ...] | None
    """Their classes; None of sources that have none."""
    active: np.ndarray | None = None
    """Whether each stem sounds in each window, bool [W, N]; None where all do."""
    presence: np.ndarray | None = None
    """Probabilities [W, K] of the model's classes, if they have been asked for."""
    starts: tuple[int, ...] = ()
    """Places of the windows in samples at the model's rate, if they are known."""
    num_asked: int | None = None
    """Sources without classes that the model is asked for, which may be fewer than it gives."""


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


def window_grid(asked: Asked, overlap: float = OVERLAP) -> WindowGrid:
    """Where a model's windows lie."""
    hop = asked.grid.hop_length if asked.grid is not None else 1
    return WindowGrid.of(asked.length, asked.separating.answered, overlap, hop)


def require_separable(asked: Asked, choice: Choice) -> None:
    """Raise UsageError for a model that does not separate, or not into the classes that are named."""
    by_class = asked.separating.by_class
    if choice.classes and not by_class:
        way = "looks at pictures" if asked.sees else "cannot say which source is of which class"
        raise UsageError(f"{asked.trained.name} {way}: ask for a number of sources, --num-sources, not for classes")
    class_ids_named(choice.classes, asked.classes)


def plan_of(
    asked: Asked,
    recording: Recording,
    choice: Choice,
    grid: WindowGrid,
    batch_size: int = BATCH_SIZE,
    progress: Progress = no_progress,
) -> Plan:
    """What a recording is to be separated into. Where what is heard decides, all of it is heard first.

    Raises UsageError for a choice that the model cannot follow, and if no class is heard where that decides.
    """
    require_separable(asked, choice)
    able = asked.separating
    if not able.by_class:
        return _plan_unnamed(asked, recording, choice, grid)
    if choice.classes:
        return Plan(names=choice.classes, class_ids=tuple(class_ids_named(choice.classes, asked.classes)))
    if not able.tells_presence:
        known = ", ".join(asked.classes)
        require(
            choice.num_sources is None,
            f"{asked.trained.name} does not say which classes it hears: name them with --classes. It knows {known}",
        )
        require(
            len(asked.classes) <= MOST_STEMS,
            f"{asked.trained.name} knows {len(asked.classes)} classes and does not say which it hears: name those that "
            f"are meant with --classes. It knows {known}",
        )
        return Plan(names=asked.classes, class_ids=tuple(range(len(asked.classes))))
    starts, presence = listen(asked, recording, grid, batch_size, progress)
    if choice.num_sources is not None:
        chosen, active = most_present(presence, choice.num_sources), None
    else:
        active = by_hysteresis(presence, choice.on, choice.off)
        chosen = np.flatnonzero(active.any(axis=0)).tolist()
        if not chosen:
            raise nothing_heard(presence, asked.classes, choice.on)
        active = active[:, chosen]
    names = tuple(asked.classes[class_id] for class_id in chosen)
    return Plan(names=names, class_ids=tuple(chosen), active=active, presence=presence, starts=tuple(starts))


def _plan_unnamed(asked: Asked, recording: Recording, choice: Choice, grid: WindowGrid) -> Plan:
    """A plan for a model that cannot say which source is of which class."""
    number = choice.num_sources or (1 if asked.sees else asked.num_sources)
    silence = np.zeros((1, asked.length), np.float32)
    found = asked.separate(silence, None, number).estimates.shape[1]
    starts: tuple[int, ...] = ()
    if asked.sees:
        if not recording.has_pictures:
            raise BadClip("no video track", f"{asked.trained.name} finds a source by what is seen of it")
        starts = tuple(start for step in hear(recording, grid, asked.sample_rate_hz) for start in step.starts)
    return Plan(names=tuple(f"source {n + 1}" for n in range(found)), class_ids=None, starts=starts, num_asked=number)


def listen(
    asked: Asked,
    recording: Recording,
    grid: WindowGrid,
    batch_size: int = BATCH_SIZE,
    progress: Progress = no_progress,
) -> tuple[list[int], np.ndarray]:
    """Starts of the windows of a recording, and the probability [W, K] of each class in each."""
    all_starts: list[int] = []
    presence = []
    for samples, starts, windows in in_batches(hear(recording, grid, asked.sample_rate_hz), batch_size):
        if starts:
            heard = asked.presence(windows[:, 0])
            for start, of_window in zip(starts, heard, strict=True):
                require_finite_answer(asked, start, of_window)
            presence.append(heard)
            all_starts += starts
        progress(samples.shape[1] / recording.sample_rate_hz)
    return all_starts, np.concatenate(presence)


def separate(
    asked: Asked,
    recording: Recording,
    plan: Plan,
    grid: WindowGrid,
    batch_size: int = BATCH_SIZE,
    findings: Findings | None = None,
    progress: Progress = no_progress,
    shown: np.ndarray | None = None,
) -> Iterator[Piece]:
    """The stems of a plan, as they get ready, for the recording's samples in order; together they are as long as it.

    `findings` gets the windows and, of a model that says it, what it hears in them. A model that looks sees pictures of
    the recording, or those that are `shown`, the same all the time: uint8 [N, H, W, 3], or [N, P, H, W, 3] of P each.
    """
    findings = Findings() if findings is None else findings
    by_masks = asked.separating.masks is not None
    making = _ByMasks(asked, recording, plan) if by_masks else _ByWaveforms(asked, recording, plan)
    pictures = None
    if asked.sees:
        pictures = _Pictures(asked, recording, plan, grid) if shown is None else _Shown(shown)
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
    return asked.separate(windows.reshape(-1, L), [row + [NO_CLASS] * (room - len(row)) for row in rows])


class _Shown:
    """Pictures that do not change."""

    def __init__(self, pictures: np.ndarray) -> None:
        self._pictures = pictures

    def of(self, count: int, num_channels: int) -> np.ndarray:
        return np.repeat(self._pictures[None], count * num_channels, axis=0)


class _Pictures:
    """Pictures uint8 [B C, N, H, W, 3] of a recording's windows in order: what is shown in their middles.

    Of several sources each is looked for in an upright strip of its own, from the left.
    """

    def __init__(self, asked: Asked, recording: Recording, plan: Plan, grid: WindowGrid) -> None:
        self._side, self._number = asked.trained.mixing.picture_side, len(plan.names)
        middles = [(start + grid.length / 2) / asked.sample_rate_hz for start in plan.starts]
        self._images = recording.pictures_at(middles)

    def of(self, count: int, num_channels: int) -> np.ndarray:
        pictures = [self._strips(next(self._images)) for _ in range(count)]
        return np.repeat(np.stack(pictures), num_channels, axis=0)

    def _strips(self, image: Image.Image) -> np.ndarray:
        width, size = image.width / self._number, (self._side, self._side)
        strips = [(n * width, 0, (n + 1) * width, image.height) for n in range(self._number)]
        from PIL import Image  # only where there are pictures

        return np.stack([np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box)) for box in strips])


class _Order:
    """Keeps sources without classes in one order, from window to window and for all channels."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[int, np.ndarray]] = {}
        """Of each channel, where its last window was, and its ordered estimates [N, A]."""

    def of(self, channel: int, start: int, estimates: np.ndarray) -> np.ndarray:
        """The order int [N] of the estimates [N, A] of a channel's next window."""
        if channel in self._before:
            before_start, before = self._before[channel]
            shift = min(start - before_start, before.shape[1])
            order = order_like(before[:, shift:], estimates[:, : before.shape[1] - shift])
        elif self._before:
            order = order_like(self._before[0][1], estimates)
        else:
            order = np.arange(len(estimates))
        self._before[channel] = (start, estimates[order])
        return order


class _ByMasks:
    """Stems by masks: answers in, samples in, stems out."""

    def __init__(self, asked: Asked, recording: Recording, plan: Plan) -> None:
        grid = asked.grid
        assert grid is not None
        self._asked, self._grid, self._cut = asked, grid, asked.separating.masks == "cut"
        self._plan = plan
        self._rate = recording.sample_rate_hz
        self._num_channels = recording.num_channels
        self._masks = OverlapAdd()
        self._order = _Order()
        self._recording = MaskedRecording(
            grid, asked.sample_rate_hz, recording.sample_rate_hz, recording.num_channels, len(plan.names)
        )

    def add_answers(self, starts: Sequence[int], answer: Separation, active: np.ndarray, num_channels: int) -> None:
        assert answer.masks is not None
        masks = to_numpy(answer.masks)
        estimates = to_numpy(answer.estimates) if self._plan.class_ids is None else None
        for b, start in enumerate(starts):
            if estimates is not None:
                require_finite_answer(self._asked, start, masks[b], estimates[b])
                of_stems = masks[b, self._order.of(0, start, estimates[b])]
            else:
                of_stems = np.zeros((len(self._plan.names), *masks.shape[2:]), np.float32)
                of_stems[active[b]] = masks[b, : active[b].sum()]
                require_finite_answer(self._asked, start, of_stems)
            frame = start // self._grid.hop_length
            self._give(frame)
            self._masks.add(frame, of_stems)

    def add_samples(self, samples: np.ndarray) -> np.ndarray:
        self._recording.add_samples(samples)
        return self._recording.ready()

    def finish(self, num_left: int) -> np.ndarray:
        self._give(None)
        return self._recording.finish()

    def _give(self, end: int | None) -> None:
        """Hand on the masks before a frame, behind which others may still have their say."""
        rows = self._masks.take(end)
        if rows is None:
            return
        linear: Tensor = self._grid.unwarp(torch.from_numpy(rows).to(self._grid.get_buffer("window").device)).cpu()
        self._recording.add_masks((linear > 0.5).float() if self._cut else linear)


class _ByWaveforms:
    """Stems by waveforms: answers in, stems at the recording's rate out."""

    def __init__(self, asked: Asked, recording: Recording, plan: Plan) -> None:
        self._asked, self._plan, self._num_channels = asked, plan, recording.num_channels
        self._waveforms = OverlapAdd()
        self._order = _Order()
        number = len(plan.names) * recording.num_channels
        self._resampler = Resampler(asked.sample_rate_hz, recording.sample_rate_hz, number)
        self._made = np.zeros((len(plan.names), recording.num_channels, 0), np.float32)
        self._room = 0
        """Samples of the recording whose stems have not been given out."""

    def add_answers(self, starts: Sequence[int], answer: Separation, active: np.ndarray, num_channels: int) -> None:
        estimates = to_numpy(answer.estimates)
        estimates = estimates.reshape(len(starts), num_channels, *estimates.shape[1:])  # [B, C, N, A]
        for b, start in enumerate(starts):
            of_stems = np.zeros((len(self._plan.names), num_channels, estimates.shape[-1]), np.float32)
            for c in range(num_channels):
                if self._plan.class_ids is None:
                    require_finite_answer(self._asked, start, estimates[b, c])
                    of_stems[:, c] = estimates[b, c, self._order.of(c, start, estimates[b, c])]
                else:
                    of_stems[active[b], c] = estimates[b, c, : active[b].sum()]
                    require_finite_answer(self._asked, start, of_stems[:, c])
            self._give(start)
            self._waveforms.add(start, of_stems)

    def add_samples(self, samples: np.ndarray) -> np.ndarray:
        self._room += samples.shape[1]
        return self._out(min(self._made.shape[-1], self._room))

    def finish(self, num_left: int) -> np.ndarray:
        self._give(None, last=True)
        missing = max(num_left - self._made.shape[-1], 0)  # a sample or two that resampling rounds away
        self._made = np.pad(self._made, ((0, 0), (0, 0), (0, missing)))
        return self._out(num_left)

    def _out(self, count: int) -> np.ndarray:
        made, self._made = self._made[..., :count], self._made[..., count:]
        self._room -= count
        return made

    def _give(self, end: int | None, last: bool = False) -> None:
        shape = self._made.shape[:2]
        waveforms = self._waveforms.take(end)
        if waveforms is None and not last:
            return
        flat = np.zeros((shape[0] * shape[1], 0), np.float32)
        if waveforms is not None:
            flat = waveforms.reshape(shape[0] * shape[1], -1)
        self._made = np.concatenate([self._made, self._resampler.add(flat, last).reshape(*shape, -1)], axis=-1)
