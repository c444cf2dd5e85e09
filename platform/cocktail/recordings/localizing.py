"""Where in a video its sounds come from: a map of each source over a picture, some times a second.

Each picture is put to the model with the window of sound around it, which at the ends of the recording is the first or
last one.

Shape letters: B windows, N sources, L samples of a window, H and W height and width of a map, M maps in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cocktail.media.bad_clips import BadClip
from cocktail.media.recording import Recording
from cocktail.recordings.asking import PRESENCE, VISUAL_PRESENCE, Asked, require_finite_answer, to_numpy
from cocktail.recordings.hearing import Progress, hear, in_batches, no_progress
from cocktail.recordings.shown import Pictures
from cocktail.recordings.sources import Choice, by_hysteresis, class_ids_named, most_present, nothing_heard
from cocktail.recordings.windows import WindowGrid
from cocktail.types import NO_CLASS, UsageError, require

MOST_MAPS_PER_SECOND = 60.0
"""As many as the video that is written has pictures: more would be looked at and not shown."""
ANY_SOUND = "what sounds"
"""Name of the one map of a model that knows no classes."""


@dataclass(frozen=True, kw_only=True)
class LocalizingPlan:
    """What is looked for, and when."""

    names: tuple[str, ...]
    """Names of the N sources."""
    class_ids: tuple[int, ...] | None
    seconds: np.ndarray
    """Times [M] of the pictures, from the first sample on."""
    window_of: np.ndarray
    """Index of the window that each is heard with, int [M], rising."""
    active: np.ndarray
    """Whether each source sounds in each window, bool [windows, N]."""
    presence: np.ndarray | None
    """Probabilities [windows, classes]; None of a model that does not say."""
    by_sight: bool
    """Whether these are of classes that are seen in the picture of a window's middle, not of those that are heard."""
    thresholds: tuple[float, float]
    """Probability from which on a class is there, and below which it has ended."""
    starts: tuple[int, ...]
    """Places of the windows, in samples at the model's rate."""
    grid: WindowGrid
    recording_seconds: float


@dataclass(frozen=True, kw_only=True)
class Look:
    """A picture, and where its sounds come from."""

    seconds: float
    picture: Image.Image
    maps: np.ndarray
    """float32 [N, H, W] over the picture, on the model's own scale; higher is likelier."""
    active: np.ndarray
    """bool [N]: which of the sources sound."""


@dataclass(frozen=True, kw_only=True)
class LocalizedRecording:
    """A video localized, in memory."""

    plan: LocalizingPlan
    looks: tuple[Look, ...]


def require_localizable(asked: Asked, choice: Choice) -> None:
    """Raise UsageError for a model that does not localize, or not the sources that are asked for."""
    if not asked.localizes:
        raise UsageError(f"{asked.trained.name} does not localize: use `cocktail separate`")
    require(
        _abilities(asked).by_class or (not choice.classes and choice.num_sources in (None, 1)),
        f"{asked.trained.name} has one map for all that is heard: leave out --classes and --num-sources",
    )
    class_ids_named(choice.classes, asked.classes)


def plan_localizing(
    asked: Asked,
    recording: Recording,
    choice: Choice,
    maps_per_second: float,
    batch_size: int,
    progress: Progress = no_progress,
) -> LocalizingPlan:
    """What is looked for in a video, after all of it has been heard once.

    Raises UsageError for a recording without pictures, and for what the model cannot do.
    """
    require_localizable(asked, choice)
    require(
        0 < maps_per_second <= MOST_MAPS_PER_SECOND,
        f"maps_per_second must be above 0, and at most {MOST_MAPS_PER_SECOND:g}, not {maps_per_second}",
    )
    if not recording.has_pictures:
        raise BadClip("no video track", "there are no pictures to look at")
    rate = asked.sample_rate_hz
    grid = WindowGrid(length=asked.length, answered=asked.length, step=max(round(rate / maps_per_second), 1))
    able = _abilities(asked)
    thresholds = choice.thresholds(able.presence_threshold)
    pictures = _middles(asked, recording, grid) if able.tells == VISUAL_PRESENCE else None
    starts: list[int] = []
    found, num_samples = [], 0
    for samples, some, windows in in_batches(hear(recording, grid, rate), batch_size):
        num_samples += samples.shape[1]
        starts += some
        if able.tells and some:
            if pictures is None:
                found.append(asked.presence(windows[:, 0]))
            else:
                found.append(asked.visual_presence(windows[:, 0], pictures.of(len(some), 1)[:, 0]))
            for start, of_window in zip(some, found[-1], strict=True):
                require_finite_answer(asked, start, of_window)
        progress(samples.shape[1] / recording.sample_rate_hz)
    presence = np.concatenate(found) if found else None
    names, class_ids, active = _sources(asked, choice, able, presence, len(starts), thresholds)
    length_seconds = num_samples / recording.sample_rate_hz
    count = max(int(length_seconds * maps_per_second), 1)
    seconds = (np.arange(count) + 0.5) * length_seconds / count
    middles = np.array(starts) / rate + grid.length / rate / 2
    edges = (middles[1:] + middles[:-1]) / 2
    return LocalizingPlan(
        names=names,
        class_ids=class_ids,
        seconds=seconds,
        window_of=np.searchsorted(edges, seconds),
        active=active,
        presence=presence,
        by_sight=pictures is not None,
        thresholds=thresholds,
        starts=tuple(starts),
        grid=grid,
        recording_seconds=length_seconds,
    )


@dataclass(frozen=True, kw_only=True)
class _Able:
    """What a localizer can do."""

    by_class: bool
    """Whether it answers for classes that are named."""
    tells: str | None
    """What it says of classes: PRESENCE, which are heard, or VISUAL_PRESENCE, which are seen, or nothing."""
    presence_threshold: float


def _abilities(asked: Asked) -> _Able:
    """What a localizer can do, tried out."""
    side = asked.trained.mixing.picture_side
    windows, black = np.zeros((1, asked.length), np.float32), np.zeros((1, side, side, 3), np.uint8)
    found = asked.localize(windows, [0] if asked.classes else None, black)
    return _Able(
        by_class=bool((found.class_ids != NO_CLASS).any()),
        tells=next((name for name in (PRESENCE, VISUAL_PRESENCE) if name in found.intermediates), None),
        presence_threshold=found.presence_threshold,
    )


def _middles(asked: Asked, recording: Recording, grid: WindowGrid) -> Pictures:
    """The pictures in the middles of a video's windows."""
    starts = [start for step in hear(recording, grid, asked.sample_rate_hz) for start in step.starts]
    return Pictures(asked, recording, starts, grid, 1)


def _sources(
    asked: Asked,
    choice: Choice,
    able: _Able,
    presence: np.ndarray | None,
    num_windows: int,
    thresholds: tuple[float, float],
) -> tuple[tuple[str, ...], tuple[int, ...] | None, np.ndarray]:
    """Names, classes, and where they sound, bool [windows, N]."""
    if not able.by_class:
        return (ANY_SOUND,), None, np.ones((num_windows, 1), bool)
    if choice.classes:
        chosen = class_ids_named(choice.classes, asked.classes)
    elif presence is None:
        raise UsageError(
            f"{asked.trained.name} does not say which classes it hears: name them with --classes. It knows "
            f"{', '.join(asked.classes)}"
        )
    elif choice.num_sources is not None:
        chosen = most_present(presence, choice.num_sources)
    else:
        on, off = thresholds
        active = by_hysteresis(presence, on, off)
        chosen = np.flatnonzero(active.any(axis=0)).tolist()
        if not chosen:
            raise nothing_heard(presence, asked.classes, on, "seen" if able.tells == VISUAL_PRESENCE else "heard")
        names = tuple(asked.classes[class_id] for class_id in chosen)
        return names, tuple(chosen), active[:, chosen]
    names = tuple(asked.classes[class_id] for class_id in chosen)
    return names, tuple(chosen), np.ones((num_windows, len(chosen)), bool)


def looks(
    asked: Asked,
    recording: Recording,
    plan: LocalizingPlan,
    batch_size: int,
    progress: Progress = no_progress,
) -> Iterator[Look]:
    """The pictures of a plan with their maps, in order."""
    pictures = iter(recording.pictures_at(plan.seconds.tolist()))
    class_ids = None if plan.class_ids is None else list(plan.class_ids)
    first = 0
    for samples, starts, windows in in_batches(hear(recording, plan.grid, asked.sample_rate_hz), batch_size):
        for b in range(len(starts)):
            times = np.flatnonzero(plan.window_of == first + b)
            for some in (times[at : at + batch_size] for at in range(0, len(times), batch_size)):
                shown = [next(pictures) for _ in some]
                maps = _maps(asked, np.repeat(windows[b], len(some), axis=0), class_ids, shown)
                require_finite_answer(asked, starts[b], maps)
                for m, picture, of_picture in zip(some, shown, maps, strict=True):
                    yield Look(
                        seconds=float(plan.seconds[m]),
                        picture=picture,
                        maps=of_picture,
                        active=plan.active[first + b],
                    )
        first += len(starts)
        progress(samples.shape[1] / recording.sample_rate_hz)


def _maps(asked: Asked, windows: np.ndarray, class_ids: list[int] | None, pictures: list[Image.Image]) -> np.ndarray:
    """Maps [B, N, H, W] of windows [B, L] with a picture each."""
    side = asked.trained.mixing.picture_side
    squares = np.stack([np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in pictures])
    return to_numpy(asked.localize(windows, class_ids, squares).maps)


def localize_recording(
    asked: Asked,
    recording: Recording,
    choice: Choice,
    maps_per_second: float,
    batch_size: int,
    progress: Progress = no_progress,
) -> LocalizedRecording:
    """All pictures and maps of a video, in memory."""
    plan = plan_localizing(asked, recording, choice, maps_per_second, batch_size, progress)
    return LocalizedRecording(plan=plan, looks=tuple(looks(asked, recording, plan, batch_size, progress)))
