"""What jobs do with a trained model: test mixtures, scores, and a report of them."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cocktail.checkpoints.store import step_of
from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.config.resources import Resources
from cocktail.evaluate import SCORED_IN, evaluate
from cocktail.inference.registry import Scored
from cocktail.inference.trained import Trained
from cocktail.report.page import PAGE_NAME
from cocktail.studies.scored_run import report_folder, results_names
from cocktail.tasks.choice import tasks_of
from cocktail.tasks.page import page_of_tasks
from cocktail.tasks.report import Report, Subject
from cocktail.tasks.task import Task
from cocktail.text.redaction import redacted_uri
from cocktail.tracking.inputs import UsedData
from cocktail.tracking.run import TrackedRun
from cocktail.train.ray_train import uses_gpus
from cocktail.types import MixtureBatch, require
from pipelines.experiments.provenance import test_data
from pipelines.experiments.report_edge import reported
from pipelines.experiments.resources import shard_cache
from pipelines.experiments.trained_on import Overlap, overlap_of
from pipelines.mixtures.batches import read_mixtures
from pipelines.plans.evaluation import has_truth, in_classes_of, make_test_list, new_classes, untaught_in_words
from pipelines.plans.negatives import without_negatives
from pipelines.plans.rows import plan_hash
from pipelines.progress import ClipProgress
from pipelines.shards.manifest import Manifest
from pipelines.shards.reader import ClipSource


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A trained model and what it is scored on."""

    checkpoint: str
    trained: Trained
    manifest: Manifest
    mixtures: pa.Table
    """Rows of a plan, in the model's class ids, and then those of the new classes."""
    new_classes: tuple[str, ...] = ()
    """Names of the classes that the model does not know, and is tested on all the same."""
    mixing: Mixing
    """How the mixtures are read: `evaluation.test_mixing` of what the model was trained on."""
    evaluation: Evaluation
    resources: Resources
    overlap: Overlap
    """Mixtures that hold what the model was trained on."""

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

        Raises UsageError where the model cannot separate, or the data cannot give, such mixtures, and where some hold
        what it was trained on.
        """
        mixing = evaluation.test_mixing(mixing)
        trained.require_test_mixing(mixing)
        test_list = make_test_list(manifest, mixing, evaluation)
        new = new_classes_for(trained.config, trained.classes, manifest, test_list)
        mixtures = in_classes_of((*trained.classes, *new), manifest, test_list)
        require_truth(tasks_of(trained.model, evaluation, mixing), mixtures, manifest)
        overlap = overlap_of(mixtures, manifest, trained.trained_on)
        overlap.require_accepted(evaluation.allow_trained_on)
        return cls(
            checkpoint=checkpoint,
            trained=trained,
            manifest=manifest,
            mixtures=mixtures,
            new_classes=new,
            mixing=mixing,
            evaluation=evaluation,
            resources=resources,
            overlap=overlap,
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, in the order of their ids in the mixtures."""
        return (*self.trained.classes, *self.new_classes)

    def _clips(self) -> ClipSource:
        return ClipSource.of(self.manifest, shard_cache(self.resources))

    @functools.cached_property
    def tasks(self) -> tuple[Task, ...]:
        """What the model is tested on."""
        several = len({len(class_ids) for class_ids in self.mixtures["class_id"].to_pylist()}) > 1
        return tasks_of(self.trained.model, self.evaluation, self.mixing, several)

    @property
    def _telling_tasks(self) -> list[Task]:
        """The tasks with what they say of controls; where models are applied, it comes out of the checkpoint."""
        return [task.with_class_spectra(self.trained.class_spectra) for task in self.tasks]

    def score(self) -> tuple[pa.Table, ...]:
        """The results of each task; progress counts by the first."""
        read = functools.partial(read_mixtures, source=self._clips(), mixing=self.mixing)
        with ClipProgress(len(self.mixtures), "scored", "mixtures") as progress:

            def count(results: tuple[pa.Table, ...]) -> None:
                rows = results[0]
                excluded = rows.filter(pa.array(~self.tasks[0].is_scored(rows)))
                num_bad = len(excluded["mixture_id"].unique())
                progress.advance(len(rows["mixture_id"].unique()) - num_bad, num_bad)

            return evaluate(
                self.checkpoint,
                self.mixtures,
                read,
                self.tasks,
                batch_size=self.evaluation.batch_size,
                num_gpus=gpus_of(self.resources),
                on_scored=count,
            )

    def record(self, results: tuple[pa.Table, ...], tracked: TrackedRun, step: int) -> Report:
        """Store what a test gave before anything is drawn of it: results.parquet and test_list.parquet, and of these
        the scores and table.md. The first two are there even if a summary fails.

        A model of several tasks has a results_<task>.parquet and a section of the table for each; the names of its
        metrics, in MLflow, begin with test/<task>/ and not with test/ alone.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name, table in zip(self._results_names, results, strict=True):
                pq.write_table(table, folder / name)
            pq.write_table(self.mixtures, folder / "test_list.parquet")
            tracked.store(folder)
        summaries = {
            task.name: task.summary(table, self.trained.name, self.notes)
            if task.is_scored(table).any()
            else self._unscored(task, table)
            for task, table in zip(self._telling_tasks, results, strict=True)
        }
        report = _together(summaries)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "table.md").write_text(report.text + "\n", "utf-8")
            tracked.store(folder)
        tracked.describe(report.text)
        tracked.log(report.metrics, step)
        return report

    def report(
        self,
        results: tuple[pa.Table, ...],
        recorded: Report,
        tracked: TrackedRun,
        step: int,
        steps_per_epoch: int | None = None,
    ) -> Report:
        """Store figures, tables and sounds in MLflow beside what `record` stored, and what the report of such a model
        holds besides; of several tasks, each in a folder, and report.html with
        all of them. What was recorded is the report where none can be made."""
        return reported(
            lambda: self._report(results, tracked, step, steps_per_epoch), recorded, tracked, "the report of the test"
        )

    def _report(
        self, results: tuple[pa.Table, ...], tracked: TrackedRun, step: int, steps_per_epoch: int | None
    ) -> Report:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            subject = self._subject(tracked, steps_per_epoch)
            reports = self._write_reports(folder, results, subject)
            report = _together(reports)
            (folder / "table.md").write_text(report.text + "\n", "utf-8")
            if len(reports) > 1:
                (folder / PAGE_NAME).write_text(page_of_tasks(self.tasks, reports, subject), "utf-8")
            tracked.store(folder)
        tracked.log(report.metrics, step)
        return report

    @property
    def _results_names(self) -> list[str]:
        return results_names([task.name for task in self.tasks])

    def _unscored(self, task: Task, table: pa.Table) -> Report:
        why = f"None of the {len(self.mixtures)} test mixtures can be scored: {task.why_not(table)}."
        return Report(text=why, metrics={}, headline={})

    def _write_reports(self, folder: Path, results: tuple[pa.Table, ...], subject: Subject) -> dict[str, Report]:
        """The report of each task, by name; their files are written to a folder."""
        reports: dict[str, Report] = {}
        for task, table, name in zip(self._telling_tasks, results, self._results_names, strict=True):
            if not task.is_scored(table).any():
                reports[task.name] = self._unscored(task, table)
                continue
            own = Path(report_folder(str(folder), name))
            own.mkdir(exist_ok=True)
            reports[task.name] = task.report(table, subject, own)
        return reports

    def _subject(self, tracked: TrackedRun, steps_per_epoch: int | None) -> Subject:
        return Subject(
            name=self.trained.name,
            model=self.trained.model,
            classes=self.classes,
            examples=self._examples(),
            sample_rate_hz=self.mixing.sample_rate_hz,
            histories=tracked.histories(("look/", "loss/", "validation/")),
            steps_per_epoch=steps_per_epoch,
            notes=self.notes,
            facts=self._facts(tracked),
        )

    def _facts(self, tracked: TrackedRun) -> dict[str, str]:
        """What a page says first: what was scored, on what, by which code."""
        tags, evaluation = tracked.tags, self.evaluation
        trained_on = "; ".join(
            f"{each.split} of {each.data} ({each.manifest[:16]})" for each in self.trained.trained_on or ()
        )
        facts = {
            "run": f"{tags.get('mlflow.runName', '')} ({tracked.run_id})",
            "checkpoint": self.checkpoint,
            "step": str(step_of(self.checkpoint)),
            "trained on": trained_on,
            "tested on": f"{len(self.mixtures)} mixtures of {evaluation.split} of {self.manifest.folder} "
            f"({self.manifest.root_hash[:16]})",
            "hash of the test list": tags.get("test_list_hash", ""),
            "commit": tags.get("git_commit", ""),
            "command": tags.get("command", ""),
        }
        return {name: redacted_uri(value) for name, value in facts.items() if value}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences beside the scores: what the model was trained on, and what of the test it had met, or could not."""
        untaught = untaught_in_words((*self.trained.untaught, *self.new_classes), self.classes, self.mixtures)
        lent = self.evaluation.frames_from
        borrowed = (
            None
            if lent is None
            else f"Sources show the pictures of other clips of their class, of the split {lent}, in place of their own."
        )
        said = (self.trained.in_words, *self.overlap.notes, untaught, borrowed)
        return tuple(note for note in said if note is not None)

    @property
    def tags(self) -> dict[str, str]:
        """What is recorded of a test beside its scores: of what was trained on, and of precision."""
        return {
            "test_mixtures_trained_on": self.overlap.in_words,
            **{f"precision.{stage}": text for stage, text in self.precision.items()},
        }

    @property
    def in_short(self) -> str:
        """What is tested on what, as a part of a name: the run and step, the data set and its split, the sources."""
        run, _, step = self.checkpoint.rstrip("/").rpartition("/")
        run = run.removesuffix("/checkpoints").rpartition("/")[2]
        step_number = step.removeprefix("step-").lstrip("0") or "0"
        evaluation, numbers = self.evaluation, self.evaluation.num_sources
        sources = "-".join(map(str, numbers or sorted({self.mixing.fewest_sources, self.mixing.num_sources})))
        split = evaluation.split if evaluation.test_list is None else "frozen list"
        words = (run, f"step {step_number}", "on", self.manifest.dataset, split, sources, "sources")
        return "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", word).strip("-") for word in words)

    def scored(self, report: Report) -> Scored:
        """What a registered model's version says of the test."""
        return Scored(
            headline=report.headline,
            test_list_hash=plan_hash(self.mixtures),
            text=report.text,
            tested_on=self.tested_on,
        )

    @property
    def tested_on(self) -> UsedData:
        """The mixtures of the test as a run's input."""
        evaluation = self.evaluation
        return test_data(self.manifest, self.mixtures, evaluation.split if evaluation.test_list is None else "a list")

    @property
    def precision(self) -> dict[str, str]:
        """What products and convolutions were computed in, in training and in scoring."""
        unsaid = "its checkpoint does not say" if self.trained.config.trains else "not trained"
        return {"training": self.trained.precision or unsaid, "scoring": SCORED_IN}

    def _examples(self) -> MixtureBatch | None:
        """The first test mixtures of each number of sources, of which figures and sounds are stored."""
        mixtures = without_negatives(self.mixtures)
        numbers = np.array([len(class_ids) for class_ids in mixtures["class_id"].to_pylist()])
        wanted = self.evaluation.num_examples
        rows = np.sort(np.concatenate([np.flatnonzero(numbers == number)[:wanted] for number in np.unique(numbers)]))
        return read_mixtures(mixtures.take(rows), self._clips(), self.mixing) if len(rows) else None


def new_classes_for(
    model: ModelConfig, classes: tuple[str, ...], manifest: Manifest, test_list: pa.Table
) -> tuple[str, ...]:
    """Names of tested classes that a model of `classes` does not know; none where it needs to know all of them."""
    return () if model.needs_known_classes else new_classes(classes, manifest, test_list)


def gpus_of(resources: Resources) -> tuple[int, int]:
    """Fewest and most GPUs that an evaluation takes, as many as training; 0 and 0 where it is on CPUs."""
    return (resources.fewest_workers, resources.num_workers) if uses_gpus(resources) else (0, 0)


def require_truth(tasks: Sequence[Task], test_list: pa.Table, manifest: Manifest) -> None:
    """Raise UsageError if all that mixtures test takes the places of sources in pictures, and nobody said any, or if
    there are negatives among them and they test something else, too."""
    require(
        "negative" not in test_list.column_names or all(task.needs_truth for task in tasks),
        "--evaluation.negatives test models that localize and do nothing else: leave them out, or test another model",
    )
    require(
        has_truth(test_list) or not all(task.needs_truth for task in tasks),
        f"nobody said where the sounds are in the {len(test_list)} test mixtures of {manifest.folder} (no boxes, no "
        "masks), and without that no map can be scored: test shards with them (--evaluation.data)",
    )


def _together(reports: Mapping[str, Report]) -> Report:
    """One report of all tasks, with a section for each where there are several; metrics are named as in MLflow."""
    if len(reports) == 1:
        (report,) = reports.values()
        return replace(report, metrics={f"test/{name}": value for name, value in report.metrics.items()})
    return Report(
        text="\n\n".join(f"## {task.capitalize()}\n\n{report.text}" for task, report in reports.items()),
        metrics={
            f"test/{task}/{name}": value for task, report in reports.items() for name, value in report.metrics.items()
        },
        headline={name: value for report in reports.values() for name, value in report.headline.items()},
    )
