"""Answers to the windows of a recording, put together into stems at its own rate.

Shape letters: B windows, C channels, N stems, T samples, A what is answered of a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cocktail.media.recording import Recording
from cocktail.recordings.asking import Asked, require_finite_answer, to_numpy
from cocktail.recordings.file_grid import MaskedRecording
from cocktail.recordings.hearing import Resampler
from cocktail.recordings.planning import Plan
from cocktail.recordings.sources import order_like
from cocktail.recordings.windows import OverlapAdd
from cocktail.types import Separation


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


class ByMasks:
    """Stems by masks: answers in, samples in, stems out."""

    def __init__(self, asked: Asked, recording: Recording, plan: Plan, soft_masks: bool) -> None:
        grid = asked.grid
        assert grid is not None
        self._asked, self._grid = asked, grid
        self._cut = asked.separating.masks == "cut" and not soft_masks
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


class ByWaveforms:
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
