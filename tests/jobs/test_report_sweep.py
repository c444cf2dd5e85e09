"""jobs/report_sweep.py makes a page of a sweep in MLflow, and a browser shows all that is on it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cocktail.checkpoints.store import CheckpointStore
from cocktail.config.evaluation import Evaluation
from cocktail.config.settings import flatten
from cocktail.inference.trained import about
from cocktail.studies.paper import PAPER_NAME
from cocktail.tracking.find import find_run
from cocktail.tracking.run import TrackedRun
from cocktail.types import UsageError
from jobs import report_sweep
from pipelines.papers.sgn import SGN
from pipelines.plans.plan import plan_test
from pipelines.plans.pool import usable_clips
from pipelines.plans.rows import plan_hash
from pipelines.sweeps.report import recorded_paper, store_sweep_report
from tests.made.corpora.toy_shards import CLASSES, toy_clip, toy_row, write_shards
from tests.made.models.small_experiment import SMALL
from tests.made.results.scored_runs import results
from tests.services.browser import CHROMIUM, HOW_TO_INSTALL, Browser, open_browser

RATE = 8000
"""Browsers play nothing below 3000 Hz."""
LABEL = "<script>document.title = 'broken into'</script> & depth 1"
SWEPT = dataclasses.replace(
    SMALL,
    model=dataclasses.replace(SMALL.model, num_frames=256),
    mixing=dataclasses.replace(SMALL.mixing, sample_rate_hz=RATE, segment_samples=64 * 256 - 1),
)
CHECKS = """(async () => {
  const all = (what) => [...document.querySelectorAll(what)];
  const loaded = (audio) => audio.readyState >= 1 || audio.error ? null : new Promise((done) => {
    audio.addEventListener("loadedmetadata", done);
    audio.addEventListener("error", done);
  });
  await Promise.all(all("audio").map(loaded));
  const tables = all("h2").map((heading) => {
    let next = heading.nextElementSibling;
    while (next && !next.querySelector("table") && next.tagName !== "H2") next = next.nextElementSibling;
    return [heading.textContent, next && next.tagName !== "H2" ? next.querySelector("tbody").rows.length : 0];
  });
  return {
    title: document.title,
    pictures: all("img").map((image) => image.complete && image.naturalWidth),
    seconds: all("audio").map((audio) => audio.error ? audio.error.message : audio.duration),
    rows: Object.fromEntries(tables),
    bodyWidth: document.documentElement.scrollWidth,
    background: getComputedStyle(document.body).backgroundColor,
  };
})()"""


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    """A sweep of two depths, of which one has failed, and a sweep that is not asked for."""
    folder = tmp_path_factory.mktemp("sweep")
    generator = np.random.default_rng(0)
    shards = {
        f"{split}-00000": [
            (toy_row(number, split, 5), toy_clip(generator.integers(-9000, 9000, 5 * RATE).astype("<i2"), rate=RATE))
            for number in numbers
        ]
        for split, numbers in (("train", range(5)), ("test", range(5, 10)))
    }
    manifest = write_shards(folder / "shards", shards, CLASSES, sample_rate_hz=RATE)
    test_list = plan_test(usable_clips(manifest, SWEPT.mixing, "test"), Evaluation(num_mixtures=3))
    store = CheckpointStore(str(folder / "checkpoints"), about=about(SWEPT, CLASSES, manifest.folder))
    checkpoint = store.save(1, {"model": SWEPT.model.build(len(CLASSES)).state_dict()}, {}, keep=1)
    uri = f"sqlite:///{folder}/mlflow.db"

    def run(name: str, tags: dict[str, str]) -> TrackedRun:
        params = flatten({"mixing": vars(SWEPT.mixing)})
        tracked = TrackedRun.open(uri, str(folder / "artifacts"), experiment="small", name=name, key="", params=params)
        tracked.tag(tags)
        return tracked

    known = {"data": manifest.folder, "manifest_hash": manifest.root_hash, "test_list_hash": plan_hash(test_list)}
    sweep = {"sweep.grid": json.dumps([["model.depth"]]), "sweep.trials": "3"}
    parent, other = run("wanted", sweep), run("other", sweep)
    other.store_json(PAPER_NAME, SGN.to_record())
    names, class_ids = test_list["mixture_id"].to_pylist(), test_list["class_id"].to_pylist()
    for depth, scores in ((1, [4.0, 6.0, 1.0]), (3, [1.0, 9.0, 3.0]), (6, None)):
        tags = {
            "mlflow.parentRunId": parent.run_id,
            "trial.label": LABEL if depth == 1 else f"depth {depth}",
            "trial.overrides": json.dumps({"model.depth": depth}),
            "trial.status": "finished" if scores else "failed: OutOfMemoryError",
            **known,
        }
        trial = run(f"wanted-{depth}", tags | ({"checkpoint": checkpoint} if scores else {}))
        with trial.closing():
            for step in (1, 10, 100):
                trial.log({"loss/total": 1 / step, "look/token_macro_f1": 0.5}, step)
            if scores:
                artifacts = folder / f"depth-{depth}"
                artifacts.mkdir()
                scored = results({"mixture": [0.0] * 3, "small": scores}, names, class_ids)
                pq.write_table(scored, artifacts / "results.parquet")
                pq.write_table(test_list, artifacts / "test_list.parquet")
                trial.store(artifacts)
    run("other-1", {"mlflow.parentRunId": other.run_id, "trial.overrides": "{}", "trial.label": "others"})
    return uri


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(HOW_TO_INSTALL)
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def report(database, tmp_path_factory) -> Path:
    """The report's folder, as the job writes it."""
    folder = tmp_path_factory.mktemp("reported") / "report"
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["wanted", "--tracking-uri", database, "--into", str(folder), "--examples", "1"]
        patch.setattr(sys, "argv", ["report_sweep.py", *arguments])
        report_sweep.main()
    return folder


def test_a_sweep_in_mlflow_becomes_a_report_of_its_own_trials(report):
    text = (report / "report.md").read_text()
    assert "2 finished, 1 failed" in text
    assert "| depth 6 seed 0: failed" not in text  # this sweep has no seeds
    assert "| depth 6 failed " in text
    assert "others" not in text
    assert "No pictures and sounds" not in text
    # Best 6 dB and worst 1 dB of the reference, and 2 of the other: each once.
    assert [text.count(f"### {why}: mixture") for why in ("Best", "Worst", "Settings differ most")] == [1, 1, 1]
    assert len(list(report.glob("*.wav"))) == 3 * 7


def test_the_report_is_stored_with_the_sweeps_run(database):
    place = store_sweep_report(database, "other")
    assert place.endswith("/artifacts/report/report.html")
    assert "Sweep other</h1>" in Path(place).read_text()
    assert "not ended: MLflow says RUNNING" in Path(place).read_text()
    assert (Path(place).parent / "report.md").exists()


def test_the_papers_tables_are_those_that_the_sweep_recorded(database, report):
    assert recorded_paper(find_run(database, "other")) == SGN
    assert recorded_paper(find_run(database, "wanted")) is None
    assert "No paper's tables are recorded with this sweep" in (report / "report.md").read_text()


def test_a_run_that_is_no_sweep_is_refused_before_anything_is_written(database, tmp_path, monkeypatch):
    arguments = ["wanted-1", "--tracking-uri", database, "--into", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["report_sweep.py", *arguments])
    with pytest.raises(UsageError, match=r"run wanted-1 .* is no sweep"):
        report_sweep.main()
    assert not (tmp_path / "out").exists()


def test_a_browser_shows_all_of_the_page_and_fetches_nothing(report, browser):
    page = report / "report.html"
    backgrounds = set()
    for width, dark in ((390, False), (1400, True)):
        browser.show(page, width, dark=dark)
        found = browser.evaluate(CHECKS)
        assert found["title"] == "Sweep wanted"
        assert len(found["pictures"]) == 7  # SDR by setting and over depth, a loss, looks, three mixtures
        assert all(size > 100 for size in found["pictures"])
        assert found["seconds"] == pytest.approx([64 * 255 / RATE] * 3 * 7, abs=0.1)
        assert (found["rows"]["Scores"], found["rows"]["Paired differences"], found["rows"]["Trials"]) == (4, 2, 3)
        assert found["bodyWidth"] <= width
        backgrounds.add(found["background"])
    assert len(backgrounds) == 2
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()] * 2


def test_a_click_on_a_heading_sorts_a_table(report, browser):
    depths = "[...document.querySelectorAll('h3 + .wide tbody tr')].slice(0, 4).map((row) => row.cells[1].textContent)"
    click = "document.querySelectorAll('h3 + .wide th button')[2].click()"
    browser.show(report / "report.html", 1400)
    assert browser.evaluate(depths) == ["1", "3", "6", ""]
    browser.evaluate(click)  # SDR: 0 of the mixture, 11 / 3, 13 / 3, none
    assert browser.evaluate(depths) == ["", "1", "3", "6"]
    browser.evaluate(click)
    assert browser.evaluate(depths) == ["3", "1", "", "6"]


def test_the_page_keeps_others_scripts_and_addresses_out(report, browser, tmp_path):
    """What would be let in by mistake is still stopped by the page's own policy."""
    text = (report / "report.html").read_text()
    intruder = "<script>document.title = 'broken into'</script><img src='http://127.0.0.1:9/x.png'>"
    page = tmp_path / "page.html"
    page.write_text(text.replace("</main>", f"{intruder}</main>"))
    before = len(browser.errors)
    browser.show(page, 1400)
    assert browser.evaluate("document.title") == "Sweep wanted"
    assert len([error for error in browser.errors[before:] if "Content Security Policy" in error]) == 2
