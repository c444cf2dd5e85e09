"""Mixtures of a sweep to look at and listen to: the reference's best and worst, and where settings differ most.

Each shows the reference and the setting that is furthest from it on that mixture, above or below.

Shape letters: N sources, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cocktail.audio.mixing import mix
from cocktail.report.figures import panel
from cocktail.report.page import Heading, Part, Picture, Table, Text, players
from cocktail.studies.scored_run import LoadTrained, ReadMixtures, load_model, read_scored
from cocktail.studies.sweep import Setting, first_seed
from cocktail.studies.sweep_figures import to_png, unmathed
from cocktail.tasks.localization.examples import LocalizedExample, localize_examples, localized_parts
from cocktail.tasks.rows import names_of
from cocktail.tasks.scores import ScoreGroup
from cocktail.tasks.separation.examples import align
from cocktail.types import Localizer, MixtureBatch, Query, UsageError

OVERLAY_DPI, OVERLAY_COLOURS = 80, 256
SPECTROGRAM_DPI, SPECTROGRAM_COLOURS = 80, 128
"""A picture of noise is large otherwise."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A mixture, and whose estimates of it are shown."""

    why: str
    mixture_id: str
    settings: tuple[Setting, ...]
    """The reference first."""


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """What a trial makes of one mixture, in [-1, 1]."""

    mixture: np.ndarray
    """[T]."""
    references: np.ndarray
    """[N, T]."""
    estimates: np.ndarray
    """[N, T]."""
    class_names: list[str]
    sample_rate_hz: int


def choose_examples(settings: Sequence[Setting], reference: Setting, score: str, count: int) -> list[Example]:
    """Up to `count` mixtures each of the reference's best and worst score, and of the largest difference from it.

    No mixture is shown twice: what is left of few goes to the earlier kinds. Settings without a mixture in common with
    the reference take no part.
    """
    own = first_seed(reference).scores.get(score, {})
    others = [setting for setting in settings if score in setting.summaries and setting is not reference]
    scores = {setting.label: first_seed(setting).scores[score] for setting in others}

    def furthest(name: str) -> tuple[float, Setting | None]:
        """How far the furthest setting is from the reference, and which it is."""
        found = [
            (abs(scores[setting.label][name] - own[name]), setting)
            for setting in others
            if name in scores[setting.label]
        ]
        return max(found, key=lambda each: each[0], default=(0.0, None))

    ascending = sorted(own, key=lambda name: (own[name], name))
    apart = sorted((name for name in own if furthest(name)[1]), key=lambda name: (-furthest(name)[0], name))
    chosen: dict[str, str] = {}
    for why, names in (("Best", ascending[::-1]), ("Worst", ascending), ("Settings differ most", apart)):
        left = [name for name in names if name not in chosen]
        chosen |= dict.fromkeys(left[:count], why)
    return [
        Example(why=why, mixture_id=name, settings=(reference, *(s for s in [furthest(name)[1]] if s is not None)))
        for name, why in chosen.items()
    ]


def show_by(
    setting: Setting, mixture_ids: Sequence[str], load: LoadTrained, read: ReadMixtures
) -> dict[str, Estimates] | dict[str, LocalizedExample]:
    """What a setting's first trial makes of mixtures of its test list, by id.

    Raises UsageError if its checkpoint, or the shards, are no longer there.
    """
    trial = first_seed(setting)
    assert trial.run is not None
    trained = load_model(trial.run, load)
    batch, mixing = read_scored(trial.run, mixture_ids, trained.mixing, read)
    if not isinstance(trained.model, Localizer):
        return separate(trained, batch, mixing.sample_rate_hz)
    rules = trial.run.board.rules
    found = localize_examples(trained.model, batch, trained.classes, mixing.sample_rate_hz, rules, setting.label)
    return {example.mixture_id: example for example in found}


def separate(trained: Any, batch: MixtureBatch, sample_rate_hz: int) -> dict[str, Estimates]:
    """Estimates of mixtures by a `cocktail.inference.trained.Trained`, by id."""
    with torch.inference_mode():
        mixtures, references = mix(batch)
        separation = trained.model.separate(mixtures, Query.of(batch))
    length = separation.estimates.shape[-1]
    found = {}
    for b, mixture_id in enumerate(batch.mixture_ids):
        count = int(batch.present[b].sum())
        class_ids, sources = batch.class_ids[b, :count], references[b, :count, :length]
        found[mixture_id] = Estimates(
            mixture=mixtures[b, :length].numpy(),
            references=sources.numpy(),
            estimates=align(separation, b, sources, class_ids).estimates,
            class_names=names_of(class_ids, trained.classes),
            sample_rate_hz=sample_rate_hz,
        )
    return found


def example_parts(
    settings: Sequence[Setting],
    reference: Setting,
    group: ScoreGroup,
    count: int,
    load: LoadTrained,
    read: ReadMixtures,
) -> list[Part]:
    """Headings, scores, pictures and players of mixtures chosen by a group's headline; what cannot be shown is said."""
    examples = choose_examples(settings, reference, group.headline.name, count)
    by_label = {setting.label: setting for example in examples for setting in example.settings}
    made: dict[str, dict[str, Any]] = {}
    parts: list[Part] = []
    for label, setting in by_label.items():
        wanted = [example.mixture_id for example in examples if setting in example.settings]
        try:
            made[label] = dict(show_by(setting, wanted, load, read))
        except UsageError as error:
            parts.append(Text(f"No pictures and sounds of {label}: {error}."))
    for example in examples:
        shown = {
            setting.label: made[setting.label][example.mixture_id]
            for setting in example.settings
            if setting.label in made
        }
        parts += _scores(example, group)
        if any(isinstance(found, LocalizedExample) for found in shown.values()):
            parts += _overlays(shown)
        elif shown:
            parts += _spectrograms(example.mixture_id, shown)
    return parts


def _scores(example: Example, group: ScoreGroup) -> list[Part]:
    name = example.mixture_id
    rows = [
        [setting.label, *(s.cell(first_seed(setting).scores.get(s.name, {}).get(name)) for s in group.scores)]
        for setting in example.settings
    ]
    return [
        Heading(f"{example.why}: mixture {name}", 3),
        Table(
            ["setting", *(score.title for score in group.scores)],
            rows,
            f"Scores of this mixture, in {group.headline.unit}",
        ),
    ]


def _overlays(shown: Mapping[str, LocalizedExample]) -> list[Part]:
    """Each setting's maps over the picture, and the sounds."""
    first = next(iter(shown.values()))
    systems = {label: found.scene.systems[label] for label, found in shown.items()}
    example = replace(first, scene=replace(first.scene, systems=systems))
    return localized_parts(example, to_png(example.figure, OVERLAY_DPI, OVERLAY_COLOURS))


def _spectrograms(name: str, shown: Mapping[str, Estimates]) -> list[Part]:
    first = next(iter(shown.values()))
    figure = panel(
        first.mixture,
        first.references,
        {unmathed(label): found.estimates for label, found in shown.items()},
        [unmathed(class_name) for class_name in first.class_names],
        first.sample_rate_hz,
        f"mixture {name}",
    )
    classes = " and ".join(first.class_names)
    picture = Picture(
        f"{name}.png",
        to_png(figure, SPECTROGRAM_DPI, SPECTROGRAM_COLOURS),
        f"Spectrograms of mixture {name} ({classes}): the mixture, the true sources, and the estimates by "
        f"{' and by '.join(shown)}. Time in s, frequency in kHz, level in dB.",
    )
    sounds = [("mixture", "mixture", first.mixture)]
    sounds += [(f"truth-{n}", f"truth: {c}", first.references[n]) for n, c in enumerate(first.class_names)]
    for k, (label, found) in enumerate(shown.items()):
        sounds += [(f"estimate-{k}-{n}", f"{label}: {c}", found.estimates[n]) for n, c in enumerate(found.class_names)]
    return [picture, players(name, sounds, first.sample_rate_hz)]
