"""The report of a scored separator: tables, figures and sounds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cocktail.report.learning import learning_figure
from cocktail.report.markdown import to_markdown
from cocktail.report.vectors import VectorScores, vectors_figure, vectors_of
from cocktail.tasks.report import Report, Subject
from cocktail.tasks.separation.class_pairs import pair_figure
from cocktail.tasks.separation.examples import store_examples
from cocktail.tasks.separation.fuss import fuss_report
from cocktail.tasks.separation.tables import HEADERS, by_class, by_class_pair, markdown, presence_scores, summarise


def separation_report(results: pa.Table, subject: Subject, folder: Path) -> Report:
    """The report of results of `cocktail.tasks.separation.results.RESULTS`.

    Writes by_class and by_class_pair (.md, .parquet, the latter .png), source_vectors.png where there is something to
    draw, learning.png, and examples/.
    """
    metrics = metrics_of(results)
    sections = [*tables_by_number(results), *subject.notes]
    presence = presence_scores(results, subject.name, len(subject.classes))
    if presence is not None:
        sections.append(presence.describe())
        metrics |= {f"test/presence/{score}": value for score, value in presence.values.items()}
    pairs = by_class_pair(results, subject.name, subject.classes)
    for kind, table in (("by_class", by_class(results, subject.name, subject.classes)), ("by_class_pair", pairs)):
        pq.write_table(table, folder / f"{kind}.parquet")
        (folder / f"{kind}.md").write_text(to_markdown(table, HEADERS) + "\n")
    vectors = _store_figures(results, pairs, subject, folder)
    if vectors is not None:
        sections.append(
            f"source vectors by class: silhouette {vectors.silhouette:.2f}, 5-NN accuracy "
            f"{vectors.knn5_accuracy:.1%} (chance {vectors.chance:.1%}), {vectors.num_vectors} vectors of "
            f"{vectors.num_classes} classes"
        )
        metrics |= {f"test/vectors/{score}": value for score, value in asdict(vectors).items()}
    sdr = metrics.get(f"test/{subject.name}/sdr")
    return Report(text="\n\n".join(sections), metrics=metrics, headline={} if sdr is None else {"sdr": f"{sdr:.3f}"})


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
        figure.savefig(folder / f"{kind}.png", dpi=100)
    if subject.examples is not None:
        store_examples(folder / "examples", subject.model, subject.examples, subject.classes, subject.sample_rate_hz)
    return scores


def tables_by_number(results: pa.Table) -> list[str]:
    """The systems' table for each number of sources; and by the FUSS rule, if there are several."""
    numbers = sorted(results["num_sources"].unique().to_pylist())
    told = []
    for number in numbers:
        heading = f"Mixtures of {number} source{'s' if number > 1 else ''}:\n\n" if len(numbers) > 1 else ""
        told.append(heading + markdown(summarise(results.filter(pc.field("num_sources") == number))))
    for system in results["system"].unique().to_pylist():
        fuss = fuss_report(results, system)
        told += [] if fuss is None else [f"{system}, by the FUSS rule:\n\n{fuss.markdown()}"]
    return told


def metrics_of(results: pa.Table) -> dict[str, float]:
    """Means and counts as MLflow takes them, over all mixtures of several sources if there are such."""
    several = results.filter(pc.field("num_sources") > 1)
    metrics: dict[str, float] = {}
    for summary in summarise(several if len(several) else results):
        prefix = f"test/{summary.system.replace(' ', '_').replace(',', '')}"
        metrics |= {f"{prefix}/{score}": value for score, value in summary.means.items() if value == value}
        counts = ("num_mixtures", "num_sources", "num_excluded", "num_silent_estimates")
        metrics |= {f"{prefix}/{count}": getattr(summary, count) for count in counts}
        if summary.sdr_interval is not None:
            low, high = summary.sdr_interval
            metrics |= {f"{prefix}/sdr_low": low, f"{prefix}/sdr_high": high}
        fuss = fuss_report(results, summary.system)
        for group in [] if fuss is None else fuss.groups:
            if group.mean_db is not None:
                metrics[f"{prefix}/fuss_{group.score.lower().replace('-', '_')}_{group.sources}_sources"] = (
                    group.mean_db
                )
    return metrics
