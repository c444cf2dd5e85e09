"""Mixtures of a sweep to look at and listen to: the reference's best and worst, and where settings differ most.

Each shows the reference and the setting that is furthest from it on that mixture, above or below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cocktail.report.page import Heading, Part, Table, Text
from cocktail.studies.scored_run import LoadTrained, ReadMixtures, load_model, read_scored
from cocktail.studies.sweep import Setting, first_seed
from cocktail.tasks.report import Subject
from cocktail.tasks.scores import ScoreGroup
from cocktail.tasks.task import Example
from cocktail.types import UsageError


@dataclass(frozen=True, kw_only=True)
class ChosenMixture:
    """A mixture, and the settings that are shown on it."""

    why: str
    mixture_id: str
    settings: tuple[Setting, ...]
    """The reference first."""


def choose_examples(settings: Sequence[Setting], reference: Setting, score: str, count: int) -> list[ChosenMixture]:
    """Up to `count` mixtures each of the reference's best and worst score, and of the largest difference from it.

    No mixture is shown twice: what is left of few goes to the earlier kinds. Settings without a mixture in common with
    the reference take no part.
    """
    own = first_seed(reference).scores.get(score, {})
    others = [setting for setting in settings if score in setting.summaries and setting is not reference]
    scores = {setting.label: first_seed(setting).scores[score] for setting in others}

    def furthest(name: str) -> tuple[float, Setting | None]:
        """How far the furthest setting is from the reference, and which it is."""
        distances = [
            (abs(scores[setting.label][name] - own[name]), setting)
            for setting in others
            if name in scores[setting.label]
        ]
        return max(distances, key=lambda each: each[0], default=(0.0, None))

    ascending = sorted(own, key=lambda name: (own[name], name))
    apart = sorted((name for name in own if furthest(name)[1]), key=lambda name: (-furthest(name)[0], name))
    chosen: dict[str, str] = {}
    for why, names in (("Best", ascending[::-1]), ("Worst", ascending), ("Settings differ most", apart)):
        left = [name for name in names if name not in chosen]
        chosen |= dict.fromkeys(left[:count], why)
    return [
        ChosenMixture(
            why=why, mixture_id=name, settings=(reference, *(s for s in [furthest(name)[1]] if s is not None))
        )
        for name, why in chosen.items()
    ]


def examples_of(
    setting: Setting, mixture_ids: Sequence[str], load: LoadTrained, read: ReadMixtures
) -> dict[str, Example]:
    """What a setting's first trial makes of mixtures of its test list, by id.

    Raises UsageError if its checkpoint, or the shards, are no longer there.
    """
    run = first_seed(setting).run
    assert run is not None
    trained = load_model(run, load)
    batch, mixing = read_scored(run, mixture_ids, trained.mixing, read)
    subject = Subject(
        name=setting.label, model=trained.model, classes=trained.classes, sample_rate_hz=mixing.sample_rate_hz
    )
    return {example.mixture_id: example for example in run.task.examples(subject, batch)}


def example_parts(
    settings: Sequence[Setting],
    reference: Setting,
    group: ScoreGroup,
    count: int,
    load: LoadTrained,
    read: ReadMixtures,
) -> list[Part]:
    """Headings, scores, pictures and players of mixtures chosen by a group's headline; what cannot be shown is said."""
    chosen = choose_examples(settings, reference, group.headline.name, count)
    by_label = {setting.label: setting for each in chosen for setting in each.settings}
    made: dict[str, dict[str, Example]] = {}
    parts: list[Part] = []
    for label, setting in by_label.items():
        wanted = [each.mixture_id for each in chosen if setting in each.settings]
        try:
            made[label] = examples_of(setting, wanted, load, read)
        except UsageError as error:
            parts.append(Text(f"No pictures and sounds of {label}: {error}."))
    for each in chosen:
        labels = [setting.label for setting in each.settings if setting.label in made]
        parts += _scores(each, group)
        if labels:
            run = first_seed(reference).run
            assert run is not None
            parts += run.task.side_by_side({label: made[label][each.mixture_id] for label in labels})
    return parts


def _scores(example: ChosenMixture, group: ScoreGroup) -> list[Part]:
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
