"""A report that fails says so in one line, keeps its traceback, and fails nothing; names alone fail none."""

import errno
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from cocktail.checkpoints.store import CheckpointStore
from cocktail.drawing import save_png
from cocktail.inference.trained import Trained
from cocktail.storage import StorageError
from cocktail.tasks.localization import report as localization
from cocktail.tasks.report import Report, Subject
from cocktail.tasks.separation.report import separation_report
from cocktail.tasks.separation.results import RESULTS
from cocktail.text.printable import on_one_line
from cocktail.tracking.outages import OutageError
from pipelines.experiments.report_edge import FAILURE_NAME, reported
from pipelines.experiments.scoring import Scoring
from pipelines.experiments.trained_on import Overlap
from tests.made.corpora.toy_shards import CLASSES, make_toy_shards
from tests.made.models.left_half import LeftHalf
from tests.made.models.small_experiment import SMALL
from tests.made.results.localized_results import mixture, source
from tests.made.results.localized_results import table as localized
from tests.made.results.systems import columns_of

HOSTILE = (
    r"$\frac{$", "x" * 300, "a/b", "100 %", "two\nlines", "nul\x00", "<script>alert(1)</script>", "=1+1", "\x1b[31m",
    "$a$ $b$ ^_", "\ud800",
)  # fmt: skip


def tracked_in(folder: Path) -> tuple[Any, dict[str, float]]:
    """A run whose artifacts are copied into a folder, and its metrics."""
    metrics: dict[str, float] = {}
    return SimpleNamespace(
        histories=lambda prefixes: {},
        store=lambda stored: shutil.copytree(stored, folder, dirs_exist_ok=True),
        log=lambda values, step: metrics.update(values),
        describe=lambda text: None,
        tags={"git_commit": "c0ffee"},
        run_id="1",
    ), metrics


def test_a_failing_report_leaves_scores_and_table_and_says_why_in_one_line(tmp_path, monkeypatch, capfd):
    test = Scoring(
        checkpoint=CheckpointStore(str(tmp_path / "checkpoints")).save(3, {"model": {}}, {}, keep=1),
        trained=Trained(
            name="model",
            config=SMALL.model,
            settings={},
            model=LeftHalf(),
            mixing=SMALL.mixing,
            evaluation=SMALL.evaluation,
            classes=CLASSES,
            data="/elsewhere",
        ),
        manifest=make_toy_shards(tmp_path / "shards", num_shards=1, clips_per_shard=1, num_test=1),
        mixtures=pa.table({"class_id": [[0]]}),
        mixing=replace(SMALL.mixing, pictures_per_source=1),
        evaluation=replace(SMALL.evaluation, num_examples=0),
        resources=SMALL.resources,
        overlap=Overlap(num_mixtures=1, num_held=0),
    )
    results = localized(mixture("a", source(0.5, iou=0.5), system="model")).cast(test.tasks[0].results)
    tracked, metrics = tracked_in(tmp_path / "artifacts")

    def fail(*_: object) -> str:
        raise RuntimeError("a page\nof \x1b[31mtwo lines")

    monkeypatch.setattr(localization, "to_html", fail)
    recorded = test.record((results,), tracked, 0)
    assert test.report((results,), recorded, tracked, 0) is recorded
    assert metrics["test/model/ap"] == 0.5
    stored = {path.name for path in (tmp_path / "artifacts").iterdir()}
    assert stored == {"results.parquet", "test_list.parquet", "table.md", FAILURE_NAME}
    assert "in fail" in (tmp_path / "artifacts" / FAILURE_NAME).read_text()
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith(r"the report of the test could not be made: RuntimeError: a page\nof \x1b[31mtwo lines.")


def failing(message: str) -> Callable[[], str]:
    def fail() -> str:
        raise RuntimeError(message)

    return fail


def test_a_disk_without_room_for_the_traceback_fails_nothing_and_is_said_in_the_line(tmp_path, monkeypatch, capfd):
    tracked, _ = tracked_in(tmp_path)

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for make, name in ((tracked, "store"), (Path, "write_text"), (tempfile, "mkdtemp")):
        with monkeypatch.context() as patched:
            patched.setattr(make, name, no_room)
            assert reported(failing("no figure"), "instead", tracked, "the report") == "instead"
        (line,) = capfd.readouterr().out.splitlines()
        assert "could not be made: RuntimeError: no figure." in line
        assert f"{FAILURE_NAME} could not be stored: [Errno 28] No space left on device" in line


def test_no_password_is_in_what_a_failing_report_says_or_stores(tmp_path, capfd):
    tracked, _ = tracked_in(tmp_path)
    reported(failing("cannot reach postgresql://lab:hun'ter2@db/mlflow"), None, tracked, "the report")
    said = capfd.readouterr().out + (tmp_path / FAILURE_NAME).read_text("utf-8")
    assert said.count("cannot reach postgresql://***@db/mlflow") == 2
    assert "ter2" not in said


def test_outages_are_not_taken_for_a_failing_report(tmp_path):
    tracked, _ = tracked_in(tmp_path)
    for outage in (OutageError("MLflow is away"), StorageError("a store is away")):

        def away(error: Exception = outage) -> None:
            raise error

        with pytest.raises(type(outage)):
            reported(away, None, tracked, "a report")


def subject(classes: tuple[str, ...]) -> Subject:
    histories = {"loss/total": [(1, 2.0), (2, 1.0)], "loss/$x$": [(1, 2.0), (2, 1.0)]}
    return Subject(name="m", model=None, classes=classes, sample_rate_hz=1000, histories=histories)


def test_no_name_of_a_class_fails_the_report_of_a_separator(tmp_path):
    rows = [
        {"mixture_id": f"{n}", **columns_of(system), "source": s, "num_sources": 2, "class_id": (n + s) % 10}
        | {"sdr": 1.0, "sir": 1.0, "sar": 1.0, "si_sdr": 1.0, "si_sdri": 1.0, "silent_estimate": False}
        | {"source_vector": np.random.default_rng(n).random(4).astype(np.float32) if system == "m" else None}
        for n in range(11)
        for system in ("m", "mixture")
        for s in range(2)
    ]
    report = separation_report(pa.Table.from_pylist(rows, schema=RESULTS), subject(HOSTILE[:-1]), tmp_path)
    assert report.headline == {"sdr": "1.000"}
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<script>") == 1, "the page's own"
    written = (tmp_path / "by_class.md").read_text("utf-8")
    assert "<script>" not in written and "\x1b" not in written
    assert len(written.splitlines()) == 1 + len(HOSTILE)


def test_a_figure_shows_names_as_they_stand(tmp_path):
    figure = Figure()
    axis = figure.subplots()
    axis.set_yscale("log")
    axis.set_title(" ".join(HOSTILE))
    axis.barh(range(len(HOSTILE)), [1] * len(HOSTILE), label=HOSTILE[0])
    axis.set_xticks(range(len(HOSTILE)), [on_one_line(name, 20) for name in HOSTILE])
    axis.legend()
    save_png(figure, tmp_path / "figure.png", 50)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_the_report_is_what_it_was_where_nothing_fails(tmp_path):
    tracked, _ = tracked_in(tmp_path)
    made = Report(text="made", metrics={}, headline={})
    assert reported(lambda: made, Report(text="", metrics={}, headline={}), tracked, "a report") is made
    assert not list(tmp_path.iterdir())
