"""A sweep's report says what the trials say, in the paper's layout where it has one, and leaves none of them out."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from cocktail.studies import sweep_report
from cocktail.studies.sweep import Sweep
from cocktail.studies.sweep_report import report_sweep
from cocktail.studies.sweep_tables import layouts
from cocktail.studies.trial import SYSTEM
from cocktail.tasks.separation.results import RESULTS
from pipelines.papers.sgn import SGN, SGN_AND_OTHERS
from tests.made.results.html_page import EVIL, read_page
from tests.made.results.sweep import MadeRun, cells, made_results, made_sweep, made_trial, never
from tests.made.results.systems import without_names

DEPTH, ASSIGNMENT, VECTORS, RATE = "model.depth", "model.assignment", "model.source_vectors", "training.learning_rate"
CURVE = [(1, 2.0), (10, 1.0)]


def report(sweep: Sweep, folder: Path, examples: int = 1) -> tuple[str, str]:
    """The report as Markdown and as a page."""
    report_sweep(folder, sweep, examples, never, never)
    return (folder / "report.md").read_text(), (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def papers() -> Sweep:
    """Table IV and a control, two seeds; a trial of depth 12 failed, the other was stopped."""
    trials = []
    for seed in (0, 1):
        for depth, assignment, sdr in ((12, "soft", None), (6, "hard", 2.0), (6, "soft", 4.0), (1, "soft", 3.0)):
            overrides = {DEPTH: depth, ASSIGNMENT: assignment, "seed": seed}
            scores = None if sdr is None else [*[sdr + seed] * 3, None]
            status = (
                ["failed: OutOfMemoryError: <script>", "stopped early at step 10"][seed] if sdr is None else "finished"
            )
            label = f"depth {depth}, {assignment}, seed {seed}"
            trials.append(made_trial(label, overrides, scores, status=status, metrics={"loss/total": CURVE}))
    trials.append(made_trial("static class", {VECTORS: "static_class", "seed": 0}, [1.0, 1.0, 1.0, None]))
    return made_sweep([[DEPTH, ASSIGNMENT], [VECTORS]], trials, SGN, command="python jobs/ablate.py")


@pytest.fixture(scope="module")
def told(papers, tmp_path_factory) -> tuple[str, str]:
    return report(papers, tmp_path_factory.mktemp("papers"))


def test_the_papers_table_has_the_papers_numbers_beside_ours(told):
    text, _ = told
    heading = "### SGN Table IV"
    header = cells(text, "setting", heading)
    assert header[:8] == ["setting", "depth", "grouping", "SDR", "paper SDR", "SIR", "paper SIR", "SAR"]
    # Seeds 4 and 5 on all mixtures, so that Student's interval of two is 6.35 either way; SIR is 1 dB more, SAR 2.
    assert cells(text, "depth 6, soft", heading) == [
        "depth 6, soft", "6", "soft", "4.50 ± 0.71 (-1.85 to 10.85)", "5.20", "5.50 ± 0.71 (-0.85 to 11.85)", "10.81",
        "6.50 ± 0.71 (0.15 to 12.85)", "10.67", "7.50 ± 0.71 (1.15 to 13.85)", "8.50 ± 0.71 (2.15 to 14.85)",
        "2 of 2", "3", "6", "1",
    ]  # fmt: skip
    assert cells(text, "mixture", heading)[3:6] == ["0.00 (0.00 to 0.00)", "", "1.00"]
    assert "Mo and Tian" in text


def test_lines_are_in_the_papers_order(papers):
    by_depth, by_switches = layouts(papers)
    labels = ["depth 1, soft", "depth 6, soft", "depth 12, soft", "depth 6, hard"]
    assert [setting.label for setting in by_depth.settings] == labels
    # The paper's own setting is a line of its other table, too.
    assert [setting.label for setting in by_switches.settings] == ["depth 6, soft", "static class"]


def test_switches_of_one_depth_are_not_beside_a_setting_of_another_and_differences_say_so(tmp_path):
    trials = [made_trial(f"depth {depth}", {DEPTH: depth, ASSIGNMENT: "soft"}, [4.0, 5.0, None]) for depth in (1, 6)]
    trials += [made_trial(vectors, {VECTORS: vectors}, [3.0, 3.0, None]) for vectors in ("tokens", "grouped_tokens")]
    for trial in trials[2:]:
        trial.params[DEPTH] = "2"  # as on the small corpus
    sweep = made_sweep([[DEPTH, ASSIGNMENT], [VECTORS]], trials, SGN)
    by_depth, by_switches = layouts(sweep)
    assert [setting.label for setting in by_depth.settings] == ["depth 1", "depth 6"]
    assert by_switches.title.startswith("SGN Table III")
    assert [setting.label for setting in by_switches.settings] == ["tokens", "grouped_tokens"]
    text, _ = report(sweep, tmp_path)
    assert cells(text, "tokens", "## Paired")[:2] == ["tokens model.depth 2, not 6", "-1.50 (too few recordings)"]
    assert cells(text, "depth 1", "## Paired")[0] == "depth 1"


def test_trials_without_scores_keep_their_line_and_say_why(told):
    text, page = told
    line = next(line for line in text.splitlines() if line.startswith("| depth 12, soft seed 0: failed seed 1:"))
    assert "seed 1: stopped early at step 10 |" in line
    assert "0 of 2" in line
    assert "5.18" in line  # the paper's
    assert "failed: OutOfMemoryError: \\<script>" in text[text.index("## Trials") :]
    assert "<script>" not in page.replace("<script>", "", 1)  # but its own
    assert "7 finished, 1 stopped early, 1 failed" in text or "1 failed, 7 finished, 1 stopped early" in text


def test_every_trial_is_listed(papers, told):
    text, page = told
    listed = text[text.index("## Trials") :]
    assert all(f"`{trial.run_id}`" in listed for trial in papers.trials)
    assert len(re.findall(r"<tr><td>", page[page.index("<h2>Trials") :])) == len(papers.trials)


def test_steps_and_minutes_of_stages_are_summed_and_one_that_never_got_to_its_last_is_listed(tmp_path):
    def staged(label: str, minutes: float, *before: MadeRun, scores: list[float] | None = None) -> MadeRun:
        curves = {"loss/total": [(100, 1.0)], "training_seconds_per_step": [(100, minutes / 10)]}
        status = "finished" if scores else "failed: OutOfMemoryError"
        run = made_trial(label, {"seed": label[-1]}, scores, status=status, metrics=curves)
        run.run_id, run.name, run.seconds = f"{label} {minutes}", f"{label} {minutes}", 60 * minutes
        run.earlier_stages = list(before)
        return run

    minus, plus = staged("net 0", 1.0), staged("net 0", 2.0)
    joint = staged("net 0", 6.0, minus, plus, scores=[1.0, 2.0])
    stopped = staged("net 1", 3.0)
    text, _ = report(made_sweep([["seed"]], [minus, plus, joint, stopped]), tmp_path)
    listed = text[text.index("## Trials") :]
    rows = [[cell.strip() for cell in line.split("|")[2:7]] for line in listed.splitlines() if "| net" in line]
    assert rows == [["0", "finished", "300", "0.30", "9.0"], ["1", "failed: OutOfMemoryError", "100", "0.30", "3.0"]]
    assert "after net 0 1.0 after net 0 2.0 net 0 6.0" in listed
    assert "steps and minutes are those of all its stages together" in listed


def test_differences_are_from_the_papers_setting(told):
    text, _ = told
    heading = "## Paired differences"
    assert cells(text, "depth 6, hard", heading) == [
        "depth 6, hard", *["-2.00 (-2.00 to -2.00)"] * 5, "2", "3", "6", "0%",
    ]  # fmt: skip
    assert cells(text, "static class", heading)[1] == "-3.00 (-3.00 to -3.00)"
    assert cells(text, "static class", heading)[6] == "one seed"
    assert cells(text, "static class", "### SGN Table III")[-4:] == ["one seed", "3", "6", "1"]
    assert "With one seed it is of these two trainings alone" in text
    assert "| depth 12, soft no finished seed in common" in text


def test_whose_estimates_are_in_the_best_order_is_said_above_the_scores(tmp_path, told):
    trials = [made_trial("named", {DEPTH: 1, "seed": 0}, [1.0, 2.0])]
    for seed in (0, 1):  # one setting, which is named once
        trials.append(made_trial(f"waves, seed {seed}", {DEPTH: 2, "seed": seed}, None))
        trials[-1].results = without_names(made_results("sgn", [1.0, 2.0]), "sgn")
    for text in report(made_sweep([[DEPTH]], trials), tmp_path):
        assert "In all mixtures this helps waves." in text
    assert "best order" not in told[0]


def test_what_was_swept_of_what_comes_first(told):
    text, page = told
    start = text[: text.index("## Scores")]
    assert "`model.depth` x `model.assignment`; `model.source_vectors`" in start
    assert "`python jobs/ablate.py`" in start
    assert re.search(r"\| seeds +\| 0, 1 ", start)
    assert "`abc`" in start  # the hash of the test list
    assert "training.batch_size 8" in start
    assert page.index("What was swept") < page.index("<h2>Scores") < page.index("Paired") < page.index("<h2>Trials")


def test_other_readings_and_classes_stand_below(told):
    text, _ = told
    assert cells(text, "depth 6, soft", "### Other readings")[1:] == ["4.50", "5.50"]
    assert cells(text, "class 1", "## By class: depth 6, soft")[1:5] == ["6", "3", "4.50", "4.50 to 4.50"]


def test_readings_of_visible_and_of_invisible_sources_have_tables_of_their_own(tmp_path):
    """Soft masks are a decibel better for what is seen; of what is not they are six worse."""
    trial = made_trial("depth 6", {DEPTH: 6}, [4.0, 4.0])
    found = made_results("sgn", [4.0, 4.0]).to_pylist()
    for row in found:
        row["seen"] = row["source"] == 0
        if "soft" in row["system"] and not row["seen"]:
            row["sdr"] -= 6
    trial.results, trial.scores = pa.Table.from_pylist(found, schema=RESULTS), None
    text, _ = report(made_sweep([[DEPTH]], [trial]), tmp_path)
    for sources, own, soft in (("", "4.00", "2.00"), ("visible ", "4.00", "5.00"), ("invisible ", "4.00", "-1.00")):
        assert cells(text, "depth 6", f"Mean {sources}SDR in dB of the same weights")[1:] == [own, soft]


def test_systems_stand_beside_what_the_paper_prints_of_them_and_others_beside_nothing(tmp_path):
    pairs = {"mixing.num_sources": "2"}
    trials = [
        made_trial(title, {SYSTEM: title}, [sdr]) for title, sdr in (("SGN", 4.0), ("HDemucs", 3.0), ("RPCA", 1.0))
    ]
    for trial in trials:
        trial.params |= pairs
    text, _ = report(made_sweep([[SYSTEM, "seed"]], trials, SGN_AND_OTHERS["music"]), tmp_path)
    heading = "### SGN Table I: systems on MUSIC"
    assert cells(text, "setting", heading)[:3] == ["setting", "SDR", "paper SDR"]
    assert [cells(text, title, heading)[2] for title in ("RPCA", "SGN", "HDemucs")] == ["-0.62", "5.20", ""]
    trials[0].params["mixing.num_sources"] = "3"
    text, _ = report(made_sweep([[SYSTEM, "seed"]], trials[:1], SGN_AND_OTHERS["music"]), tmp_path)
    assert "SGN Table I" not in text, "pairs are not threes"


def test_examples_that_cannot_be_shown_are_said(told):
    text, _ = told
    assert "No pictures and sounds of depth 6, soft:" in text
    assert "### Best: mixture 0000000000000002" in text


def test_a_sweep_that_recorded_no_paper_is_reported_without_its_columns_and_says_so(tmp_path, told):
    trials = [made_trial(f"depth {depth}", {DEPTH: depth, ASSIGNMENT: "soft"}, [4.0, 5.0]) for depth in (1, 6)]
    text, _ = report(made_sweep([[DEPTH, ASSIGNMENT]], trials), tmp_path)
    line = "No paper's tables are recorded with this sweep: none stand beside its scores."
    assert line in text
    assert line not in told[0]
    heading = f"### {DEPTH} x {ASSIGNMENT}"
    assert cells(text, "setting", heading)[:5] == ["setting", "depth", "assignment", "SDR", "SIR"]
    assert cells(text, "depth 6", heading)[3] == "4.50 (too few recordings)"
    assert "(the first that has scores)" in text


def test_a_grid_of_ones_own_has_no_papers_columns_and_a_line_over_its_numbers(tmp_path):
    trials = [made_trial(f"rate {rate}", {RATE: rate}, [rate * 10, 1.0]) for rate in (0.1, 0.001)]
    text, page = report(made_sweep([[RATE]], trials, SGN), tmp_path, examples=0)
    assert "paper" not in text[text.index("## Scores") : text.index("## Paired")]
    assert cells(text, "setting", f"### {RATE}")[:3] == ["setting", "learning_rate", "SDR"]
    assert cells(text, "rate 0.001", f"### {RATE}")[1] == "0.001"
    assert text.index("| rate 0.001") < text.index("| rate 0.1 ")
    assert (tmp_path / f"sdr-0-{RATE}.png").exists()
    assert "(the first that has scores)" in page
    assert "Examples" not in page


def test_a_sweep_of_which_nothing_has_finished_is_reported(tmp_path):
    trials = [made_trial("cost $1$ and $2", {DEPTH: 1}, None, status="failed: x", metrics={"loss/total": CURVE})]
    text, _ = report(made_sweep([[DEPTH]], trials), tmp_path)
    assert "No trial has finished with scores" in text
    assert "| cost $1$ and $2 seed 0: failed |" in text
    assert (tmp_path / "loss-total.png").exists()


def test_hostile_labels_runs_settings_and_classes_are_text_on_the_page(tmp_path, monkeypatch):
    def page_of(text: str) -> tuple[list[tuple[str, ...]], str]:
        trained = SimpleNamespace(classes=(f"{text} class 0", f"{text} class 1"))
        monkeypatch.setattr(sweep_report, "load_model", lambda *_: trained)
        curves = {"loss/total": CURVE}
        trials = [
            made_trial(f"{text} 0", {DEPTH: f"{text} setting"}, [1.0, 2.0], metrics=curves),
            made_trial(f"{text} 1", {DEPTH: "3"}, None, status=f"failed: {text} error", metrics=curves),
        ]
        for trial in trials:
            trial.tags |= {"checkpoint": f"{text} checkpoint"}
            trial.params |= {"evaluation.split": f"{text} split"}
        _, page = report(made_sweep([[DEPTH]], trials, command=f"{text} command"), tmp_path / str(len(text)))
        return read_page(page)

    elements, text = page_of(EVIL)
    harmless_elements, harmless_text = page_of("harmless")
    assert elements == harmless_elements
    assert text.count(EVIL) == harmless_text.count("harmless")
    for what in ("0", "1", "setting", "error", "checkpoint", "split", "command", "class 0"):
        assert f"{EVIL} {what}" in text
    assert f"run-{EVIL}" in text
