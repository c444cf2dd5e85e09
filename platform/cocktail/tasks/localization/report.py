"""What one sees of a scored localizer: a page that needs nothing else, and the overlays, sounds and figures on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from cocktail.drawing import save_png
from cocktail.report.learning import learning_figure
from cocktail.report.markdown import INTERVAL, markdown_table
from cocktail.report.page import PAGE_NAME, Heading, Part, Picture, Table, Text, to_html
from cocktail.report.vectors import VectorScores, vectors_of, vectors_panel
from cocktail.tasks.localization.examples import LocalizedExample, localized_examples
from cocktail.tasks.localization.negatives import (
    ABOUT_NEGATIVES,
    TITLES,
    NegativesSummary,
    negatives_metrics,
    negatives_table,
    negatives_texts,
    summarise_negatives,
)
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.localization.tables import (
    ABOUT_AUC,
    LocalizationSummary,
    by_class,
    class_table,
    excluded_text,
    headline_of,
    markdown,
    metrics_of,
    presence_by_modality,
    summarise,
    system_table,
    without_negatives,
)
from cocktail.tasks.presence import PRESENCE_SCORES, PresenceScores
from cocktail.tasks.report import ABOUT_INTERVALS, Report, Subject, facts_parts

FIGURE_DPI = 100
VECTORS_NAME, LEARNING_NAME = "vectors.png", "learning.png"
ABOUT_RULES = (
    "In percent; higher is better. AP ranks a map's pixels against the truth's, CAP is its mean over the sources of a "
    "mixture, each by the map of its class, and PIAP that in the best order of maps. IoU is of maps made binary by the "
    "rule that the heading names: `peak(r)` takes what is above a share r of the map's range, `half` the brighter half "
    "of the pixels, `fixed` what reaches one threshold for all maps. IoU@t is the share of mixtures whose IoU reaches "
    "t, CIoU@t the same of the mean IoU over a mixture's sources; per slot, each source counts by itself. AUC is the "
    f"area below that share over t from 0 to 1. {ABOUT_AUC} Small: the 95 % interval, by recording. {ABOUT_INTERVALS}"
)
ABOUT_CONTROLS = (
    "Controls hear and see nothing: the constant map takes everything, and its AP is chance; the centred box takes "
    "half of the picture; the ideal map knows the truth, and is the ceiling of each rule. By `fixed`, whatever the "
    "threshold, they take everything, the box, and the truth."
)


def localization_report(results: pa.Table, subject: Subject, folder: Path, rules: ScoringRules) -> Report:
    """The report of a table of LOCALIZATION_RESULTS, scored by `rules`.

    Writes report.html, by_class.md and .parquet, examples/, and, where there is what they show, vectors.png and
    learning.png. Metrics are in [0, 1].
    """
    name, classes = subject.name, subject.classes
    positives = without_negatives(results)
    summaries = summarise(positives, rules)
    presence = presence_by_modality(positives, name, len(classes))
    by_classes = by_class(positives, name, classes)
    figure, vectors = _vectors(positives, name, classes)
    if figure is not None:
        save_png(figure, folder / VECTORS_NAME, FIGURE_DPI)
    if subject.histories:
        curves = learning_figure(subject.histories, name, subject.steps_per_epoch)
        save_png(curves, folder / LEARNING_NAME, FIGURE_DPI)
    examples = () if subject.examples is None else localized_examples(subject, subject.examples, rules)
    example_parts = _store_examples(folder / "examples", examples)

    pq.write_table(by_classes, folder / "by_class.parquet")
    header, rows = class_table(by_classes, rules)
    (folder / "by_class.md").write_text(markdown_table(header, rows) + "\n", "utf-8")
    tables = [
        *score_parts(summaries, rules),
        *negatives_parts(summarise_negatives(results, rules), rules),
        *presence_parts(presence),
    ]
    parts: list[Part] = [
        *facts_parts(subject.facts),
        *tables,
        *(Text(note) for note in subject.notes),
        *example_parts,
        Heading("By class"),
        Table(header, rows, f"{name}: means over sources, in percent"),
        *_figure_parts(folder),
    ]
    (folder / PAGE_NAME).write_text(to_html(f"Localization by {name}", parts), "utf-8")

    scores = summary_of(results, name, subject.notes, rules)
    metrics = dict(scores.metrics)
    for modality, of_presence in presence.items():
        metrics |= {f"{modality}_presence/{score}": value for score, value in of_presence.values.items()}
    for modality, of_vectors in vectors.items():
        metrics |= {f"{modality}_vectors/{score}": value for score, value in asdict(of_vectors).items()}
    sections = [scores.text, *_presence_texts(presence)]
    text = "\n\n".join([*sections, *(_vectors_text(*each) for each in vectors.items())])
    return Report(text=text, metrics=metrics, headline=scores.headline, parts=tables)


def summary_of(results: pa.Table, name: str, notes: Sequence[str], rules: ScoringRules) -> Report:
    """What the report of a model of that name says first: the systems' tables and scores."""
    summaries, negatives = summarise(results, rules), summarise_negatives(results, rules)
    text = "\n\n".join([markdown(summaries, rules), *negatives_texts(negatives, rules), ABOUT_INTERVALS, *notes])
    metrics = metrics_of(summaries) | negatives_metrics(negatives)
    return Report(text=text, metrics=metrics, headline=headline_of(summaries, name))


def negatives_parts(summaries: Mapping[str, Sequence[NegativesSummary]], rules: ScoringRules) -> list[Part]:
    """A table for each kind of negatives; nothing of a test without."""
    parts: list[Part] = [Heading("Tests with negatives"), Text(ABOUT_NEGATIVES)] if summaries else []
    for kind, of_kind in summaries.items():
        parts += [Heading(f"Single sources and {TITLES[kind]}", 3), _scores_table(*negatives_table(of_kind, rules))]
    return parts


def score_parts(summaries: Mapping[int, Sequence[LocalizationSummary]], rules: ScoringRules) -> list[Part]:
    """A table for each number of sources."""
    parts: list[Part] = [Heading("Scores"), Text(ABOUT_RULES), Text(ABOUT_CONTROLS)]
    for number, of_number in summaries.items():
        parts.append(Heading(f"Mixtures of {number} source{'s' if number > 1 else ''}", 3))
        parts.append(_scores_table(*system_table(of_number, rules)))
        parts += [Text(text)] if (text := excluded_text(of_number)) else []
    return parts


def _scores_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The table with each interval below what it is of: the page is not as wide as a terminal."""
    kept = [i for i, heading in enumerate(header) if heading != INTERVAL]
    below = {i - 1 for i, heading in enumerate(header) if heading == INTERVAL}
    cells = [[f"{row[i]}\n{row[i + 1]}" if i in below and row[i + 1] else row[i] for i in kept] for row in rows]
    return Table([header[i] for i in kept], cells)


def presence_parts(presence: Mapping[str, PresenceScores]) -> list[Part]:
    """How well the model says which classes are heard and seen; nothing if it does not."""
    if not presence:
        return []
    rows = [
        [{"audio": "heard", "visual": "seen"}[modality], *cells]
        for modality, of_both in presence.items()
        for cells in of_both.cells
    ]
    caption = "Classes that the model takes to be there against those of the sources, in [0, 1]"
    return [Heading("What is there"), Table(["classes", "average", *PRESENCE_SCORES], rows, caption)]


def _presence_texts(presence: Mapping[str, PresenceScores]) -> list[str]:
    return [f"{modality}:\n\n{scores.to_markdown()}" for modality, scores in presence.items()]


def _vectors_text(modality: str, scores: VectorScores) -> str:
    return (
        f"{modality} vectors by class: silhouette {scores.silhouette:.2f}, 5-NN accuracy {scores.knn5_accuracy:.1%} "
        f"(chance {scores.chance:.1%}), {scores.num_vectors} vectors of {scores.num_classes} classes"
    )


def _vectors(results: pa.Table, name: str, classes: Sequence[str]) -> tuple[Figure | None, dict[str, VectorScores]]:
    """A figure of a model's vectors by t-SNE (AVGN Fig. 4), if it has any, and scores of those that can be scored."""
    vectors = {modality: vectors_of(results, name, f"{modality}_vector") for modality in ("audio", "visual")}
    vectors = {modality: (values, class_ids) for modality, (values, class_ids) in vectors.items() if len(values)}
    if not vectors:
        return None, {}
    panels = {f"{modality} vectors": each for modality, each in vectors.items()}
    figure, scores = vectors_panel(panels, tuple(classes))
    by_modality = zip(vectors, scores.values(), strict=True)
    return figure, {modality: each for modality, each in by_modality if each is not None}


def _store_examples(folder: Path, examples: Iterable[LocalizedExample]) -> list[Part]:
    """Write examples, and show what was written."""
    parts: list[Part] = []
    for example in examples:
        example.store(folder)
        png = (folder / f"{example.mixture_id}.png").read_bytes()
        title = f"Mixture {example.mixture_id}: {' and '.join(example.scene.class_names)}"
        parts += [Heading(title, 3), *example.parts(png)]
    return [Heading("Examples"), *parts] if parts else []


def _figure_parts(folder: Path) -> list[Part]:
    """The figures that are in the folder."""
    captions = {
        VECTORS_NAME: ("Vectors by class", "What stands for each source, by t-SNE, a colour a class (AVGN Fig. 4)."),
        LEARNING_NAME: ("Learning curves", "Recognition of classes, and losses, by step."),
    }
    parts: list[Part] = []
    for file, (title, caption) in captions.items():
        if (folder / file).exists():
            parts += [Heading(title), Picture(file, (folder / file).read_bytes(), caption)]
    return parts
