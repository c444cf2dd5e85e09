"""The report of a scored separator: tables, figures and sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cocktail.drawing import save_png
from cocktail.report.learning import learning_figure
from cocktail.report.markdown import markdown_table, to_markdown
from cocktail.report.page import PAGE_NAME
from cocktail.report.vectors import VectorScores, vectors_figure, vectors_of
from cocktail.tasks.class_accuracy import class_accuracy
from cocktail.tasks.report import ABOUT_INTERVALS, Report, Subject
from cocktail.tasks.rows import rows_of, systems_of
from cocktail.tasks.scores import order_note
from cocktail.tasks.separation.class_draws import class_draws
from cocktail.tasks.separation.class_pairs import pair_figure
from cocktail.tasks.separation.fuss import FussReport, fuss_report
from cocktail.tasks.separation.page import recognition_parts, score_parts, separation_page, store_examples
from cocktail.tasks.separation.parsed import parsed_metrics, parsed_sets, parsed_table
from cocktail.tasks.separation.sight import sight_metrics, sight_table, summaries_by_sight
from cocktail.tasks.separation.tables import (
    HEADERS,
    SystemSummary,
    by_class,
    by_class_pair,
    class_table,
    markdown,
    presence_scores,
    scored_rows,
    share_in_best_order,
    summarise,
)
from cocktail.text.printable import as_metric_name


def separation_report(results: pa.Table, subject: Subject, folder: Path, class_draw: int | None = None) -> Report:
    """The report of results of `cocktail.tasks.separation.results.RESULTS`, with means over draws of so many classes.

    Writes report.html, by_class and by_class_pair (.md, .parquet, the latter .png), source_vectors.png where there is
    something to draw, learning.png, and examples/.
    """
    summaries = Summaries.of(results)
    scores = summary_of(summaries, subject.name, subject.notes)
    sections, metrics = [scores.text], dict(scores.metrics)
    own = scored_rows(results, subject.name)
    presence, sets = presence_scores(own, len(subject.classes)), parsed_sets(own, len(subject.classes))
    if sets:
        sections.append(markdown_table(*parsed_table(sets)))
        metrics |= parsed_metrics(sets)
    elif presence is not None:
        sections.append(presence.to_markdown())
        metrics |= {f"presence/{score}": value for score, value in presence.values.items()}
    accuracy = class_accuracy(rows_of(results, "system", [subject.name]))
    draws = None if class_draw is None else class_draws(results, subject.name, class_draw)
    for name, of_model in (("class_accuracy", accuracy), ("class_draws", draws)):
        if of_model is not None:
            sections.append(of_model.to_markdown())
            metrics |= {f"{name}/{score}": value for score, value in of_model.values.items()}
    if class_draw is not None and draws is None:
        sections.append(f"No draws of {class_draw} classes: scored mixtures have no more than that.")
    pairs = by_class_pair(own, subject.classes)
    by_classes = by_class(own, subject.classes)
    table_of_classes = class_table(by_classes)
    texts = {"by_class": markdown_table(*table_of_classes), "by_class_pair": to_markdown(pairs, HEADERS)}
    for (kind, text), table in zip(texts.items(), (by_classes, pairs), strict=True):
        pq.write_table(table, folder / f"{kind}.parquet")
        (folder / f"{kind}.md").write_text(text + "\n", "utf-8")
    vectors = _store_figures(results, pairs, subject, folder)
    notes = [summaries.order, *subject.notes] if summaries.order else subject.notes
    tables = [
        *score_parts(summaries.by_number, summaries.by_sight, summaries.fuss, draws, notes),
        *recognition_parts(presence, sets, accuracy),
    ]
    examples = store_examples(subject, folder / "examples")
    page = separation_page(subject, tables, table_of_classes, examples, folder)
    (folder / PAGE_NAME).write_text(page, "utf-8")
    if vectors is not None:
        sections.append(
            f"source vectors by class: silhouette {vectors.silhouette:.2f}, 5-NN accuracy "
            f"{vectors.knn5_accuracy:.1%} (chance {vectors.chance:.1%}), {vectors.num_vectors} vectors of "
            f"{vectors.num_classes} classes"
        )
        metrics |= {f"vectors/{score}": value for score, value in asdict(vectors).items()}
    return Report(text="\n\n".join(sections), metrics=metrics, headline=scores.headline, parts=tables)


def summary_of(summaries: Summaries, name: str, notes: Sequence[str]) -> Report:
    """What the report of a model of that name says first: the systems' tables and scores."""
    metrics = metrics_of(summaries)
    sdr = metrics.get(f"{as_metric_name(name)}/sdr")
    by_sight = [markdown_table(*sight_table(summaries.by_sight))] if summaries.by_sight else []
    order = [summaries.order] if summaries.order else []
    text = "\n\n".join([*tables_by_number(summaries), *by_sight, ABOUT_INTERVALS, *order, *notes])
    return Report(text=text, metrics=metrics, headline={} if sdr is None else {"sdr": f"{sdr:.3f}"})


@dataclass(frozen=True, kw_only=True)
class Summaries:
    """Summaries of all systems, each computed once."""

    by_number: Mapping[int, Sequence[SystemSummary]]
    """Summaries of the mixtures of each number of sources."""
    overall: Sequence[SystemSummary]
    """Summaries of all mixtures of several sources, or of all if there are no such."""
    fuss: Mapping[str, FussReport]
    """Reports by the FUSS rule of the systems that were scored by it."""
    by_sight: Mapping[str, Sequence[SystemSummary]]
    """Summaries of visible and of invisible sources; nothing unless some of these mixtures' sources are not seen."""
    order: str
    """A sentence on the systems whose estimates are taken in the best order, or nothing."""

    @classmethod
    def of(cls, results: pa.Table) -> Summaries:
        numbers = sorted(results["num_sources"].unique().to_pylist())
        by_number = {number: summarise(results.filter(pc.field("num_sources") == number)) for number in numbers}
        several = [number for number in numbers if number > 1] or numbers
        if len(several) == 1:
            overall = by_number[several[0]]
        else:
            overall = summarise(results.filter(pc.field("num_sources").isin(several)))
        reports = {system: fuss_report(results, system) for system in systems_of(results)}
        fuss = {system: report for system, report in reports.items() if report is not None}
        return cls(
            by_number=by_number,
            overall=overall,
            fuss=fuss,
            by_sight=summaries_by_sight(results),
            order=order_note((system, share_in_best_order(results, system)) for system in reports),
        )


def _store_figures(results: pa.Table, pairs: pa.Table, subject: Subject, folder: Path) -> VectorScores | None:
    figures = {"by_class_pair": pair_figure(pairs, f"{subject.name}: SDR by pair of classes")}
    vectors, class_ids = vectors_of(results, subject.name)
    scores = None
    if len(vectors):
        title = f"{subject.name}: source vectors"
        figures["source_vectors"], scores = vectors_figure(vectors, class_ids, subject.classes, title)
    if subject.histories:
        figures["learning"] = learning_figure(subject.histories, subject.name, subject.steps_per_epoch)
    for kind, figure in figures.items():
        save_png(figure, folder / f"{kind}.png", 100)
    return scores


def tables_by_number(summaries: Summaries) -> list[str]:
    """The systems' table for each number of sources; and by the FUSS rule, if there are several."""
    sections = []
    for number, of_number in summaries.by_number.items():
        several = len(summaries.by_number) > 1
        heading = f"Mixtures of {number} source{'s' if number > 1 else ''}:\n\n" if several else ""
        sections.append(heading + markdown(of_number))
    return sections + [f"{name}, by the FUSS rule:\n\n{fuss.markdown()}" for name, fuss in summaries.fuss.items()]


def metrics_of(summaries: Summaries) -> dict[str, float]:
    """Means and counts, `<system>/<score>`, over all mixtures of several sources if there are such."""
    metrics: dict[str, float] = {}
    for summary in summaries.overall:
        prefix = as_metric_name(summary.system)
        metrics |= {f"{prefix}/{score}": value for score, value in summary.means.items() if value == value}
        counts = ("num_mixtures", "num_sources", "num_excluded", "num_silent_estimates")
        metrics |= {f"{prefix}/{count}": getattr(summary, count) for count in counts}
        if summary.num_recordings is not None:
            metrics[f"{prefix}/num_recordings"] = summary.num_recordings
        if summary.sdr_interval is not None:
            low, high = summary.sdr_interval[1:]
            metrics |= {f"{prefix}/sdr_low": low, f"{prefix}/sdr_high": high}
        fuss = summaries.fuss.get(summary.system)
        for group in [] if fuss is None else fuss.groups:
            if group.mean_db is not None:
                score = f"fuss_{group.score.lower().replace('-', '_')}_{group.sources}_sources"
                metrics[f"{prefix}/{score}"] = group.mean_db
    return metrics | sight_metrics(summaries.by_sight)
