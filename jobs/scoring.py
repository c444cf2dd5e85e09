"""What jobs do with a trained model: test mixtures, scores, and a report of them."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cocktail.config import Evaluation, Mixing, Resources, flatten
from cocktail.evaluate import SCORING_CPUS, SEPARATING_CPUS, Trained, evaluate
from cocktail.report.examples import store_examples
from cocktail.report.fuss import fuss_report
from cocktail.report.learning import learning_figure
from cocktail.report.matrix import pair_figure
from cocktail.report.tables import by_class, by_class_pair, markdown, presence_scores, summarise, to_markdown
from cocktail.report.vectors import VectorScores, vectors_figure, vectors_of
from cocktail.storage import absolute, join
from cocktail.tracking import TrackedRun
from cocktail.train.placement import Demand, require_place
from cocktail.train.ray_train import uses_gpus
from cocktail.types import NO_CLASS, UsageError
from jobs.environment import ENVIRONMENT, environment, provenance
from pipelines.batches import read_mixtures
from pipelines.clip_pool import list_array, usable_clips
from pipelines.clips import ClipSource
from pipelines.manifest import Manifest
from pipelines.plans import describe, plan_hash, plan_test, with_class_ids
from pipelines.progress import ClipProgress
from pipelines.shard_cache import ShardCache
from pipelines.test_lists import read_test_list, split_of


def make_test_list(manifest: Manifest, mixing: Mixing, evaluation: Evaluation) -> pa.Table:
    """The frozen test mixtures: of the file that the settings name, or as they describe.

    To be read with `evaluation.test_mixing(mixing)`.
    """
    mixing = evaluation.test_mixing(mixing)
    if evaluation.test_list is not None:
        location = absolute(evaluation.test_list, "--evaluation.test-list")
        return read_test_list(location, usable_clips(manifest, mixing, split_of(location)))
    pool = usable_clips(manifest, mixing, evaluation.split)
    print(describe(pool, evaluation), flush=True)
    return plan_test(pool, evaluation)


def in_classes_of(trained: Trained, manifest: Manifest, test_list: pa.Table) -> pa.Table:
    """The test mixtures with the model's own class ids in place of the data set's, by name.

    Raises UsageError if there are classes in them that the model does not know.
    """
    places = {name: number for number, name in enumerate(trained.classes)}
    own = np.array([places.get(name, NO_CLASS) for name in manifest.classes], np.int32)
    ids = np.unique(list_array(test_list["class_id"]).flatten().to_numpy())
    unknown = sorted(manifest.classes[class_id] for class_id in ids[ids != NO_CLASS] if own[class_id] == NO_CLASS)
    if unknown:
        raise UsageError(
            f"the model does not know {len(unknown)} classes of {manifest.folder}, among them {', '.join(unknown[:5])}:"
            " test it on mixtures of the classes that it was trained on"
        )
    return with_class_ids(test_list, own)


def test_demands(num_gpus: int) -> list[Demand]:
    """What an evaluation needs at once."""
    separating = {"CPU": SEPARATING_CPUS, "GPU": 1.0 if num_gpus else 0.0}
    return [
        Demand("separating process", max(num_gpus, 1), separating),
        Demand("scoring task", 1, {"CPU": SCORING_CPUS}),
    ]


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A trained model and what it is scored on."""

    checkpoint: str
    trained: Trained
    manifest: Manifest
    mixtures: pa.Table
    """Rows of a plan, in the model's class ids."""
    mixing: Mixing
    evaluation: Evaluation
    resources: Resources

    @classmethod
    def of(
        cls,
        checkpoint: str,
        trained: Trained,
        manifest: Manifest,
        mixing: Mixing,
        evaluation: Evaluation,
        resources: Resources,
    ) -> Scoring:
        """The test that settings describe.

        Raises UsageError where the model cannot separate, or the data cannot give, such mixtures.
        """
        trained.config.require_test_mixing(mixing)
        mixtures = in_classes_of(trained, manifest, make_test_list(manifest, mixing, evaluation))
        return cls(
            checkpoint=checkpoint,
            trained=trained,
            manifest=manifest,
            mixtures=mixtures,
            mixing=mixing,
            evaluation=evaluation,
            resources=resources,
        )

    def _clips(self) -> ClipSource:
        cache = ShardCache(max_bytes=int(self.resources.cache_gb * 1e9), chosen_folder=self.resources.cache_folder)
        return ClipSource.of(self.manifest, cache)

    def score(self) -> pa.Table:
        """A table of `cocktail.metrics.results.RESULTS`; progress is shown."""
        read = functools.partial(read_mixtures, source=self._clips(), mixing=self.mixing)
        with ClipProgress(len(self.mixtures), "scored", "mixtures") as progress:

            def count(rows: pa.Table) -> None:
                excluded = rows.filter(rows["sdr"].is_null())
                num_bad = len(excluded["mixture_id"].unique())
                progress.advance(len(rows["mixture_id"].unique()) - num_bad, num_bad)

            return evaluate(
                self.checkpoint,
                self.mixtures,
                read,
                batch_size=self.evaluation.batch_size,
                num_gpus=self.resources.num_workers if uses_gpus(self.resources) else 0,
                metrics=self.evaluation.metrics,
                on_scored=count,
            )

    def report(self, results: pa.Table, tracked: TrackedRun, step: int, steps_per_epoch: int | None = None) -> str:
        """Store scores, tables, figures and sounds in MLflow. Returns the tables as text.

        table.md, results.parquet, test_list.parquet; by_class and by_class_pair (.md, .parquet, the latter .png);
        source_vectors.png and learning.png where there is something to draw; examples/.
        """
        name, classes = self.trained.name, self.trained.classes
        metrics = metrics_of(results)
        sections = tables_by_number(results)
        presence = presence_scores(results, name, len(classes))
        if presence is not None:
            sections.append(presence.describe())
            metrics |= {f"test/presence/{score}": value for score, value in presence.values.items()}
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            pairs = by_class_pair(results, name, classes)
            vectors = self._store_figures(folder, results, pairs)
            if vectors is not None:
                sections.append(
                    f"source vectors by class: silhouette {vectors.silhouette:.2f}, 5-NN accuracy "
                    f"{vectors.knn5_accuracy:.1%} (chance {vectors.chance:.1%}), {vectors.num_vectors} vectors of "
                    f"{vectors.num_classes} classes"
                )
                metrics |= {f"test/vectors/{score}": value for score, value in asdict(vectors).items()}
            text = "\n\n".join(sections)
            (folder / "table.md").write_text(text + "\n")
            pq.write_table(results, folder / "results.parquet")
            pq.write_table(self.mixtures, folder / "test_list.parquet")
            for kind, table in (("by_class", by_class(results, name, classes)), ("by_class_pair", pairs)):
                pq.write_table(table, folder / f"{kind}.parquet")
                (folder / f"{kind}.md").write_text(to_markdown(table) + "\n")
            if histories := tracked.histories(("look/", "loss/", "validation/")):
                learning_figure(histories, name, steps_per_epoch).savefig(folder / "learning.png", dpi=100)
            tracked.store(folder)
        tracked.log(metrics, step)
        return text

    def _store_figures(self, folder: Path, results: pa.Table, pairs: pa.Table) -> VectorScores | None:
        name, classes = self.trained.name, self.trained.classes
        figures = {"by_class_pair": pair_figure(pairs, f"{name}: SDR by pair of classes")}
        vectors, class_ids = vectors_of(results, name)
        scores = None
        if len(vectors):
            figures["source_vectors"], scores = vectors_figure(vectors, class_ids, classes, f"{name}: source vectors")
        for kind, figure in figures.items():
            figure.savefig(folder / f"{kind}.png", dpi=100)
        examples = self.mixtures.slice(0, self.evaluation.num_examples)
        if len(examples):
            batch = read_mixtures(examples, self._clips(), self.mixing)
            store_examples(folder / "examples", self.trained.model, batch, classes, self.mixing.sample_rate_hz)
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


def score_and_track(test: Scoring, tracking_uri: str, output: str) -> str:
    """Score a checkpoint in an MLflow run of its own, which the same test of it finds again. Returns what to print."""
    tests = {
        "checkpoint": test.checkpoint,
        "data": test.manifest.folder,
        **flatten({"mixing": asdict(test.mixing), "evaluation": asdict(test.evaluation)}),
        **{f"trained.{path}": value for path, value in test.trained.settings.items()},
    }
    require_place(test_demands(test.resources.num_workers if uses_gpus(test.resources) else 0))
    key = hashlib.sha256(json.dumps([tests, plan_hash(test.mixtures)], sort_keys=True).encode()).hexdigest()[:8]
    tracked = TrackedRun.open(
        tracking_uri,
        join(output, "artifacts"),
        experiment=test.trained.name,
        name=f"evaluate-{key}",
        key=key,
        params=tests,
    )
    with tracked.closing():
        tracked.tag({**provenance(test.manifest, test.mixtures), "checkpoint": test.checkpoint})
        tracked.store_json(ENVIRONMENT, environment())
        text = test.report(test.score(), tracked, 0)
    return f"\n{text}\n\nMLflow: {tracking_uri}, run {tracked.run_id}\ntables, figures and sounds: {tracked.artifacts}"
