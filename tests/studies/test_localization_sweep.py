"""The report of a sweep of models that localize: the same parts, of other scores, by number of sources."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from cocktail.config.mixing import Mixing
from cocktail.metrics.intervals import Recordings
from cocktail.report.page import Heading, Picture, Sounds, Table
from cocktail.studies.sweep import Sweep, difference
from cocktail.studies.sweep_examples import example_parts
from cocktail.studies.sweep_report import report_sweep
from cocktail.studies.sweep_tables import layouts
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.types import MixtureBatch
from pipelines.papers.avgn import AVGN
from tests.made.models.left_half import LeftHalf
from tests.made.results.sweep import cells, localized_trial, made_sweep, never

DEPTH, ASSIGNMENT, VECTORS = "model.depth", "model.assignment", "model.source_vectors"
SOURCES = "mixing.num_sources"


def soft(depth: int, ious: dict | None, seed: int = 0):
    overrides = {DEPTH: depth, ASSIGNMENT: "soft", "seed": seed}
    return localized_trial(f"depth {depth}, seed {seed}", overrides, ious)


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    """Two depths of Table 4; of the third no trial has finished."""
    return made_sweep(
        [[DEPTH, ASSIGNMENT]],
        [
            soft(1, {1: [0.5, 0.25, None], 2: [0.5, 0.25]}),
            soft(3, {1: [0.75, 0.5, None], 2: [0.25, 0.25]}),
            soft(3, {1: [0.75, 0.0, None], 2: [0.25, 0.75]}, seed=1),
            soft(12, None),
        ],
        AVGN,
    )


@pytest.fixture(scope="module")
def text(sweep, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("localized")
    report_sweep(folder, sweep, 1, never, never)
    assert {path.name for path in folder.glob("auc_*.png")} == {
        f"auc_{number}_sources-0{end}.png" for number in (1, 2) for end in ("", f"-{DEPTH}")
    }
    return (folder / "report.md").read_text()


def test_scores_are_of_each_number_of_sources_in_percent(sweep):
    one, three, twelve = sweep.settings
    found = {name: summary.mean for name, summary in one.summaries.items()}
    # AUC of an IoU of 0.5 is 0.5 and half a step; of 0.25 0.25 and half a step.
    assert found == pytest.approx(
        {
            "ap_1_sources": 18.75,
            "iou_1_sources": 50,
            "auc_1_sources": 40,
            "iou_half_1_sources": 50,
            "auc_half_1_sources": 40,
            "cap_2_sources": 18.75,
            "piap_2_sources": 18.75,
            "ciou_2_sources": 50,
            "auc_2_sources": 40,
            "ciou_half_2_sources": 50,
            "auc_half_2_sources": 40,
        }
    )
    assert three.summaries["iou_1_sources"].by_seed == [100, 50]
    assert three.summaries["auc_1_sources"].num_mixtures == 2
    assert twelve.summaries == {}
    assert sweep.reference is three  # AVGN's own depth, not SGN's


def test_settings_that_all_succeed_have_the_intervals_of_shares():
    of_alike = made_sweep([[DEPTH, ASSIGNMENT]], [soft(depth, {1: [0.75] * 7 + [0.25]}) for depth in (1, 3)], AVGN)
    one, three = of_alike.settings
    recordings = Recordings([[f"{m}"] for m in range(8)])
    share = recordings.interval_of_share(np.repeat([1.0, 0.0], [7, 1]))
    apart = recordings.interval_of_difference(np.zeros(8))
    assert one.summaries["iou_1_sources"].interval == pytest.approx(100 * np.array(share))
    group = next(group for group in of_alike.groups if group.num_sources == 1)
    assert difference(one, three, group).summaries["iou_1_sources"].interval == pytest.approx(100 * np.array(apart))


def test_differences_are_of_the_groups_mixtures(sweep):
    one, three, _ = sweep.settings
    single, double = (difference(one, three, group) for group in sweep.groups)
    own = ["ap_1_sources", "iou_1_sources", "auc_1_sources"]
    assert list(single.summaries) == [*own, "iou_half_1_sources", "auc_half_1_sources"]
    assert single.summaries["iou_1_sources"].mean == -50
    assert single.summaries["auc_1_sources"].num_mixtures == single.summaries["auc_1_sources"].num_recordings == 2
    assert (single.share_better, single.seeds) == (0, ["0"])
    assert double.summaries["ciou_2_sources"].mean == 50
    assert double.share_better == 0.5


def test_the_papers_numbers_stand_beside_ours_in_a_table_of_each_number(text):
    heading = "### AVGN Table 4"
    single, double = text.index("Mixtures of 1 source\n"), text.index("Mixtures of 2 sources\n")
    assert text.index(heading) < single < double
    assert cells(text, "setting", heading)[:9] == [
        *("setting", "depth", "grouping", "AP", "paper AP", "IoU@0.5", "paper IoU@0.5", "AUC", "paper AUC")
    ]
    few = "(too few recordings)"
    assert cells(text, "depth 1", heading) == [
        *("depth 1", "1", "soft", f"18.8 {few}", "75.8", f"50.0 {few}", "53.6"),
        *(f"40.0 {few}", "45.7", f"50.0 {few}", f"40.0 {few}", "one seed", "2", "2", "1"),
    ]
    pairs = cells(text[double:], "depth 3", "|")
    assert pairs[3:] == [
        *(f"18.8 ± 8.8 {few}", "50.6", f"18.8 ± 8.8 {few}", "57.2", f"25.0 ± 35.4 {few}"),
        *("32.5", f"40.0 ± 17.7 {few}", "24.6", f"25.0 ± 35.4 {few}", f"40.0 ± 17.7 {few}", "2 of 2", "2", "4", "0"),
    ]
    assert cells(text[double:], "constant map", "|")[3:8] == ["25.0", "", "25.0", "", "0.0"]
    assert 'printed in Mo and Tian, "Audio-Visual Grouping Network' in text
    assert "depth 12 seed 0: failed" in text[double:]
    assert "by peak(0.5)" in text
    assert "(the paper's own setting), in percent" in text


def test_the_papers_numbers_keep_their_thresholds_where_ours_are_others(tmp_path):
    rules = ScoringRules(single_threshold=0.3, multi_threshold=0.1)
    trial = localized_trial("ours", {DEPTH: 3}, {1: [0.4], 2: [0.2]}, rules)
    trial.params[DEPTH] = "3"
    report_sweep(tmp_path, made_sweep([[DEPTH]], [trial], AVGN), 0, never, never)
    text = (tmp_path / "report.md").read_text()
    single, double = (cells(text[text.index(f"Mixtures of {number} source") :], "setting", "|") for number in (1, 2))
    assert single[5:7] == ["IoU@0.3", "paper IoU@0.5"]
    assert double[7:9] == ["CIoU@0.1", "paper CIoU@0.3"]


def test_all_parts_are_of_maps(text):
    assert cells(text, "depth 1", "### Other readings")[1:] == ["40.0", "20.0"]
    assert cells(text, "class 0", "## By class: depth 1")[:6] == ["class 0", "4", "37.5", "37.5", "18.8", "4"]
    assert "No pictures and sounds of depth 3:" in text
    assert "Best and worst are by the AUC, 2 sources of depth 3" in text
    assert "dB" not in text and "SDR" not in text


def test_switches_stand_beside_table_3_at_the_depth_of_the_small_network():
    trials = [
        localized_trial(vectors, {VECTORS: vectors, SOURCES: sources}, {2: [0.5, 0.25]})
        for vectors, sources in (("pooled", 1), ("tokens", 2))
    ]
    for trial in trials:
        trial.params[DEPTH] = "1"
    (layout,) = layouts(made_sweep([[VECTORS, SOURCES]], trials, AVGN))
    assert layout.title.startswith("AVGN Table 3")
    assert [[column.cell(setting.value(column.path)) for column in layout.columns] for setting in layout.settings] == [
        ["no", "no", "single sources"],
        ["yes", "no", "pairs"],
    ]
    assert [layout.printed(setting)["ciou_2_sources"] for setting in layout.settings] == [24.3, 27.6]


def test_an_example_is_an_overlay_of_both_settings_and_sounds():
    sweep = made_sweep([[DEPTH]], [localized_trial(str(depth), {DEPTH: depth}, {2: [0.5]}) for depth in (1, 3)], AVGN)
    name = "2" + "0" * 15
    test_list = pa.table({"mixture_id": [name], "clip_id": [["a", "b"]], "class_id": [[0, 1]]})
    for trial in sweep.trials:
        assert trial.run is not None
        object.__setattr__(trial.run, "test_list", test_list)
        trial.tags.update({"checkpoint": "c", "data": "/shards"})  # type: ignore[attr-defined]

    def load(checkpoint):
        return SimpleNamespace(model=LeftHalf(), mixing=Mixing(sample_rate_hz=2000), classes=("bell", "drum"))

    def read(run, rows, mixing):
        return MixtureBatch(
            mixture_ids=tuple(rows["mixture_id"].to_pylist()),
            sources=torch.zeros(1, 2, 4000, dtype=torch.int16),
            gains=torch.ones(1, 2),
            class_ids=torch.tensor([[0, 1]]),
            present=torch.ones(1, 2, dtype=torch.bool),
            pictures=torch.zeros(1, 2, 1, 16, 16, 3, dtype=torch.uint8),
            truth=torch.ones(1, 2, 16, 16, dtype=torch.bool),
            has_truth=torch.ones(1, 2, dtype=torch.bool),
        )

    assert sweep.reference is not None
    heading, scores, picture, players = example_parts(sweep.settings, sweep.reference, sweep.groups[-1], 1, load, read)
    assert heading == Heading(f"Best: mixture {name}", 3)
    assert isinstance(scores, Table) and isinstance(picture, Picture) and isinstance(players, Sounds)
    assert list(scores.rows) == [[label, "25.0", "25.0", "100.0", "52.5", "100.0", "52.5"] for label in ("3", "1")]
    assert picture.png.startswith(b"\x89PNG")
    assert f"Maps of bell and drum over the picture of mixture {name}, a row a system: 3; 1." in picture.caption
    assert [sound.name for sound in players.sounds] == [
        f"{name}-{kind}.wav" for kind in ("mixture", "truth-0", "truth-1")
    ]
    assert [sound.label for sound in players.sounds] == ["mixture", "only bell", "only drum"]


def test_trials_that_were_scored_by_other_rules_are_said(tmp_path):
    trials = [
        localized_trial(str(share), {"evaluation.peak_share": share}, {1: [0.5, 0.25]}, ScoringRules(peak_share=share))
        for share in (0.1, 0.5)
    ]
    report_sweep(tmp_path, made_sweep([["evaluation.peak_share"]], trials, AVGN), 0, never, never)
    assert "Trials were scored by different rules" in (tmp_path / "report.md").read_text()
