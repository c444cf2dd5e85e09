"""What a recording is separated into, found out before it is: named, counted, or all that is heard.

Shape letters: B windows, N stems, K classes of the model, W windows of the recording.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cocktail.media.bad_clips import BadClip
from cocktail.media.recording import Recording
from cocktail.recordings.asking import Asked, require_finite_answer
from cocktail.recordings.hearing import Progress, hear, in_batches, no_progress
from cocktail.recordings.shown import Pictures
from cocktail.recordings.sources import (
    MOST_STEMS,
    Choice,
    by_hysteresis,
    class_ids_named,
    most_present,
    nothing_heard,
)
from cocktail.recordings.windows import WindowGrid
from cocktail.types import NO_CLASS, UsageError, require

OVERLAP = 0.5
"""Share of a window's answer that the next one answers, too."""
IN_VIEW = "what is in view"
"""Name of the stem of what a video shows, beside those of what is only heard."""
BATCH_SIZE = 4
"""Windows that are put to a model together."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recording is separated into."""

    names: tuple[str, ...]
    """Names of the N stems."""
    class_ids: tuple[int, ...] | None
    """Their classes, NO_CLASS of one that is found by pictures alone beside others; None of sources that have none."""
    num_seen: int = 0
    """Stems that are found by pictures: the first ones."""
    in_one_picture: bool = False
    """Whether all of them are looked for in the whole picture, by their names, and not each in a strip of its own."""
    visual_presence: np.ndarray | None = None
    """Probabilities [W, K] of classes being heard and seen, if they have been asked for."""
    active: np.ndarray | None = None
    """Whether each stem sounds in each window, bool [W, N]; None where all do."""
    presence: np.ndarray | None = None
    """Probabilities [W, K] of the model's classes, if they have been asked for."""
    starts: tuple[int, ...] = ()
    """Places of the windows in samples at the model's rate, if they are known."""
    num_asked: int | None = None
    """Sources without classes that the model is asked for, which may be fewer than it gives."""


def window_grid(asked: Asked, overlap: float = OVERLAP) -> WindowGrid:
    """Where a model's windows lie."""
    hop = asked.grid.hop_length if asked.grid is not None else 1
    return WindowGrid.of(asked.length, asked.separating.answered, overlap, hop)


def require_separable(asked: Asked, choice: Choice) -> None:
    """Raise UsageError for a model that does not separate, or not into the classes that are named."""
    if choice.classes and not (asked.separating.by_class or asked.names_in_one_picture):
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
    if choice.classes and asked.names_in_one_picture:
        return _plan_named(asked, recording, choice.classes, grid)
    if not able.by_class:
        return _plan_unnamed(asked, recording, choice, grid)
    if asked.names_unseen and recording.has_pictures and not choice.classes:
        if choice.num_sources is not None or not able.tells_presence:
            return _plan_unnamed(asked, recording, choice, grid)
        return _plan_scene(asked, recording, choice, grid, batch_size, progress)
    if choice.classes:
        return _plan_named(asked, recording, choice.classes, grid)
    if asked.needs_sight or not able.tells_presence:
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
        return _plan_named(asked, recording, asked.classes, grid)
    starts, presence = listen(asked, recording, grid, batch_size, progress)
    if choice.num_sources is not None:
        chosen, active = most_present(presence, choice.num_sources), None
    else:
        on, off = choice.thresholds(able.presence_threshold)
        active = by_hysteresis(presence, on, off)
        chosen = np.flatnonzero(active.any(axis=0)).tolist()
        if not chosen:
            raise nothing_heard(presence, asked.classes, on)
        active = active[:, chosen]
    names = tuple(asked.classes[class_id] for class_id in chosen)
    return Plan(names=names, class_ids=tuple(chosen), active=active, presence=presence, starts=tuple(starts))


def _plan_named(asked: Asked, recording: Recording, names: tuple[str, ...], grid: WindowGrid) -> Plan:
    """A plan for classes by their names. A model that has to see each looks for them from the left, in their order, or
    for all of them in the whole picture if it can."""
    class_ids = tuple(class_ids_named(names, asked.classes))
    if not asked.needs_sight:
        return Plan(names=names, class_ids=class_ids)
    starts = _starts_seen(asked, recording, grid)
    together = asked.names_in_one_picture
    return Plan(names=names, class_ids=class_ids, num_seen=len(names), in_one_picture=together, starts=starts)


def _plan_unnamed(asked: Asked, recording: Recording, choice: Choice, grid: WindowGrid) -> Plan:
    """A plan for a model that cannot say which source is of which class."""
    number = choice.num_sources or (1 if asked.sees else asked.num_sources)
    silence = np.zeros((1, asked.length), np.float32)
    found = asked.separate(silence, None, number).estimates.shape[1]
    return Plan(
        names=tuple(f"source {n + 1}" for n in range(found)),
        class_ids=None,
        num_seen=found if asked.sees else 0,
        starts=_starts_seen(asked, recording, grid) if asked.sees else (),
        num_asked=number,
    )


def _starts_seen(asked: Asked, recording: Recording, grid: WindowGrid) -> tuple[int, ...]:
    """Places of the windows of a recording with pictures. Raises BadClip of one without."""
    if not recording.has_pictures:
        raise BadClip("no video track", f"{asked.trained.name} finds a source by what is seen of it")
    return _starts(asked, recording, grid)


def _starts(asked: Asked, recording: Recording, grid: WindowGrid) -> tuple[int, ...]:
    """Places of the windows, in samples at the model's rate."""
    return tuple(start for step in hear(recording, grid, asked.sample_rate_hz) for start in step.starts)


def _plan_scene(
    asked: Asked, recording: Recording, choice: Choice, grid: WindowGrid, batch_size: int, progress: Progress
) -> Plan:
    """A plan for what a video shows, as one source, and for each class that is heard in it and not seen (AVSA-Sep,
    section 3.2 and figure 4)."""
    starts = _starts(asked, recording, grid)
    pictures = Pictures(asked, recording, starts, grid, 1)
    heard, seen = [], []
    for samples, some, windows in in_batches(hear(recording, grid, asked.sample_rate_hz), batch_size):
        if some:
            audible, visible = asked.scene(windows[:, 0], pictures.of(len(some), 1))
            for start, *of_window in zip(some, audible, visible, strict=True):
                require_finite_answer(asked, start, *of_window)
            heard.append(audible)
            seen.append(visible)
        progress(samples.shape[1] / recording.sample_rate_hz)
    presence, visual_presence = np.concatenate(heard), np.concatenate(seen)
    on, off = choice.thresholds(asked.separating.presence_threshold)
    active = by_hysteresis(np.where(visual_presence >= on, 0, presence), on, off)
    chosen = np.flatnonzero(active.any(axis=0)).tolist()
    return Plan(
        names=(IN_VIEW, *(asked.classes[class_id] for class_id in chosen)),
        class_ids=(NO_CLASS, *chosen),
        num_seen=1,
        visual_presence=visual_presence,
        active=np.concatenate([np.ones((len(starts), 1), bool), active[:, chosen]], axis=1),
        presence=presence,
        starts=starts,
    )


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
