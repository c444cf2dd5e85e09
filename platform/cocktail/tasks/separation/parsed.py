"""How well a model says what of a mixture is seen and what is only heard: its sets of classes, beside sets that need no
model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from cocktail.report.markdown import format_count
from cocktail.tasks.presence import PRESENCE_SCORES, PresenceScores, Sources, presence_of, said_in, sources_in
from cocktail.tasks.separation.sight import INVISIBLE, VISIBLE

AUDIBLE = "audible"
NONE, MOST_FREQUENT, ALL = "none", "the most frequent", "all"
"""What the trivial controls name in each mixture: no class, the one that most of these test mixtures have, or all."""


@dataclass(frozen=True, kw_only=True)
class ParsedSet:
    """One of the three sets of classes, as a model finds it."""

    own: PresenceScores
    controls: dict[str, PresenceScores]
    """By NONE, MOST_FREQUENT and ALL."""


def parsed_sets(rows: pa.Table, num_classes: int) -> dict[str, ParsedSet]:
    """The sets of a model's scored rows, by VISIBLE, AUDIBLE and INVISIBLE; nothing of a model that does not say what
    it sees.

    Visible classes are those of sources that the mixture shows, invisible ones those of the others. The model's are
    those with a probability above its threshold of being seen and heard, of being heard, and what is in the latter
    alone.
    """
    if "visual_classes" not in rows.column_names:
        return {}
    audible, visible = said_in(rows, "predicted_classes"), said_in(rows, "visual_classes")
    everyone = {name: each for name, each in sources_in(rows).items() if name in visible and name in audible}
    said = {
        VISIBLE: visible,
        AUDIBLE: audible,
        INVISIBLE: {name: audible[name] - visible[name] for name in everyone},
    }
    columns = rows.select(["mixture_id", "source", "seen"]).to_pydict()
    seen = {(name, source): bool(shown) for name, source, shown in zip(*columns.values(), strict=True)}
    sets: dict[str, ParsedSet] = {}
    for kind, named in said.items():
        sources: Sources = {
            name: [
                each
                for place, each in enumerate(of_mixture)
                if kind == AUDIBLE or seen[name, place] == (kind == VISIBLE)
            ]
            for name, of_mixture in everyone.items()
        }
        own = presence_of(named, sources, everyone, num_classes)
        if own is None:
            return {}
        controls = {}
        for control, classes in trivial_sets(sources, num_classes).items():
            scores = presence_of(dict.fromkeys(everyone, classes), sources, everyone, num_classes)
            assert scores is not None
            controls[control] = scores
        sets[kind] = ParsedSet(own=own, controls=controls)
    return sets


def trivial_sets(sources: Sources, num_classes: int) -> dict[str, set[int]]:
    """The classes that each control names in all mixtures."""
    counts = Counter(class_id for of_mixture in sources.values() for own, _ in of_mixture for class_id in own)
    frequent = {min(counts, key=lambda class_id: (-counts[class_id], class_id))} if counts else set[int]()
    return {NONE: set(), MOST_FREQUENT: frequent, ALL: set(range(num_classes))}


def parsed_table(sets: dict[str, ParsedSet]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the sets: the model's scores, and the F1 of each control."""
    rows = []
    for kind, parsed in sets.items():
        counts = [str(parsed.own.num_mixtures), format_count(parsed.own.num_recordings)]
        for cells, average in zip(parsed.own.cells, ("micro", "macro"), strict=True):
            controls = [f"{getattr(scores, average).f1:.3f}" for scores in parsed.controls.values()]
            rows.append([kind, *cells, *controls, *counts])
    of_controls = [f"F1, naming {control}" for control in (NONE, MOST_FREQUENT, ALL)]
    return ["classes", "average", *PRESENCE_SCORES, *of_controls, "mixtures", "recordings"], rows


def parsed_metrics(sets: dict[str, ParsedSet]) -> dict[str, float]:
    """The sets' scores as metrics: `presence/visible_macro_f1`, and of controls `presence/visible_macro_f1_all`."""
    metrics: dict[str, float] = {}
    for kind, parsed in sets.items():
        metrics |= {f"presence/{kind}_{score}": value for score, value in parsed.own.values.items()}
        for control, scores in parsed.controls.items():
            name = control.removeprefix("the ").replace(" ", "_")
            metrics |= {
                f"presence/{kind}_{average}_f1_{name}": getattr(scores, average).f1 for average in ("micro", "macro")
            }
    return metrics
