"""Aggregation of localization results by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cocktail.metrics.intervals import Recordings
from cocktail.report.markdown import INTERVAL
from cocktail.report.page import Text
from cocktail.tasks.localization.mixtures import SAME_CLASS
from cocktail.tasks.localization.report import score_parts
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.localization.tables import (
    by_class,
    class_table,
    excluded_text,
    markdown,
    metrics_of,
    percent,
    presence_by_modality,
    summarise,
    system_table,
)
from cocktail.tasks.localization.task import Localizing
from tests.made.results.localized_results import mixture, source, table

CLASSES = ("bell", "drum", "harp")
BELL, DRUM, HARP = range(3)
RULES = ScoringRules()


def test_two_sources_have_cap_piap_and_ciou_by_image_and_by_slot():
    results = table(
        mixture("a", source(0.4, 0.8, iou=0.6), source(0.2, 1.0, iou=0.1)),
        mixture("b", source(0.6, iou=0.2), source(0.8, iou=0.2)),
    )
    (summary,) = summarise(results, RULES)[2]
    assert summary.ap == pytest.approx((0.3 + 0.7) / 2)
    assert summary.piap == pytest.approx((0.9 + 0.7) / 2)
    assert summary.threshold == 0.3
    peak, half = summary.by_rule["peak"], summary.by_rule["half"]
    assert (peak.success, peak.success_by_slot) == (0.5, 0.25)
    assert (half.success, half.success_by_slot) == (0, 0.25)  # 0.3, not above it, reaches
    # Images have 0.35 and 0.2: thresholds 0 to 0.35 and 0 to 0.2.
    assert peak.auc == pytest.approx(((7 + 0.5) + (4 + 0.5)) / 2 / 20)
    assert (summary.num_mixtures, summary.num_recordings, summary.excluded) == (2, 4, {})


def test_intervals_are_by_recording_and_those_of_success_are_of_shares():
    ious = [0.9, 0.8, 0.7, 0.9, 0.8, 0.9, 0.1, 0.2]
    apart = table(*(mixture(f"{n}", source(0.5 + iou / 4, iou=iou)) for n, iou in enumerate(ious)))
    videos = ["a", "a", "b", "b", "c", "c", "d", "d"]
    frames = table(*(mixture(f"{n}", source(0.5 + ious[n] / 4, iou=ious[n]), recording=videos[n]) for n in range(8)))
    (single,), (of_videos,) = (summarise(results, RULES)[1] for results in (apart, frames))
    assert (single.num_recordings, of_videos.num_mixtures, of_videos.num_recordings) == (8, 8, 4)
    values = 0.5 + np.array(ious) / 4
    for summary, names in ((single, "12345678"), (of_videos, videos)):
        recordings = Recordings([[name] for name in names])
        assert summary.ap_interval == pytest.approx(recordings.interval(values))
        reached = np.array(ious) >= 0.5
        assert summary.success_interval == pytest.approx(recordings.interval_of_share(reached))
    assert single.ap_interval is not None and of_videos.ap_interval is not None
    assert single.ap_interval.low > of_videos.ap_interval.low
    (never,) = summarise(table(*(mixture(f"{n}", source(0.5, iou=0.1)) for n in range(8))), RULES)[1]
    assert never.success_interval is not None and never.success_interval.low == 0 < never.success_interval.high
    two = [row | {"recording": f"{n % 2}"} for n in range(8) for row in mixture(f"{n}", source(0.5, iou=0.5))]
    header, (row,) = system_table(summarise(table(two), RULES)[1], RULES)
    assert dict(zip(header, row, strict=True))["95 % interval, by recording"] == "too few recordings"
    assert row[-3:] == ["8", "2", "0"]


def test_auc_of_several_sources_is_that_of_images():
    (summary,) = summarise(table(mixture("a", source(iou=0.64), source(iou=0.18))), RULES)[2]
    # Their mean reaches thresholds 0 to 0.4; by themselves they reach 0.6 and 0.15, which would make 0.4.
    assert summary.by_rule["peak"].auc == pytest.approx((8 + 0.5) / 20)


def test_one_source_has_ap_and_iou_at_its_own_threshold():
    results = table(*(mixture(name, source(0.5, iou=iou)) for name, iou in zip("abc", (0.2, 0.5, 1.0), strict=True)))
    (summary,) = summarise(results, RULES)[1]
    assert (summary.threshold, summary.by_rule["peak"].success) == (0.5, pytest.approx(2 / 3))
    assert summary.by_rule["peak"].auc == pytest.approx(0.58333, abs=5e-6)
    strict = ScoringRules(single_threshold=0.9)
    assert summarise(results, strict)[1][0].by_rule["peak"].success == pytest.approx(1 / 3)


def test_what_does_not_count_is_in_no_mean_and_counted_by_reason():
    results = table(
        mixture("a", source(0.4, 0.6, iou=0.5), source(0.4, 0.6, iou=0.5)),
        mixture("b", source(excluded="no truth"), source(1.0, None, iou=1.0)),
        mixture("c", source(0.9, iou=1.0), source(excluded="empty truth")),
        mixture("d", source(0.8, 1.0, iou=1.0, excluded=SAME_CLASS), source(0.8, 1.0, iou=1.0, excluded=SAME_CLASS)),
    )
    summaries = summarise(results, RULES)
    (summary,) = summaries[2]
    assert summary.ap == pytest.approx(0.4)
    assert summary.piap == pytest.approx((0.6 + 1.0) / 2)  # sources of one class count where names do not
    assert summary.by_rule["peak"].auc == pytest.approx((10 + 0.5) / 20)
    assert summary.excluded == {"no truth": 1, "empty truth": 1, SAME_CLASS: 1}
    assert summary.num_mixtures == 1 and summary.ap_interval is None
    excluded = "Excluded: 1 no truth, 1 empty truth, 1 same class as another source; the last count in PIAP."
    assert excluded_text(summaries[2]) == excluded
    assert f"\n\n{excluded}\n\n" in markdown(summaries, RULES)
    assert metrics_of(summaries)["model/num_excluded"] == 3


def test_what_an_auc_is_worth_nothing_stands_wherever_one_is_printed():
    results = table(mixture("a", source(0.1, iou=0.0)), mixture("b", source(0.1, iou=0.0)))
    summaries = summarise(results, RULES)
    assert percent(summaries[1][0].by_rule["peak"].auc) == "2.5"
    said = "AUC is 2.5 at least: its first threshold is 0, which a map that misses everything reaches."
    assert markdown(summaries, RULES).endswith(f"\n\n{said}")
    assert said in Localizing(rules=RULES).scoreboard(results).about
    assert any(isinstance(part, Text) and said in part.text for part in score_parts(summaries, RULES))


def test_where_one_map_serves_all_there_is_no_cap():
    results = table(mixture("a", source(iou=0.5), source(iou=0.1)), mixture("b", source(iou=0.5), source(iou=0.5)))
    summaries = summarise(results, RULES)
    (summary,) = summaries[2]
    assert summary.ap != summary.ap and summary.piap != summary.piap and summary.ap_interval is None
    header, rows = system_table(summaries[2], RULES)
    cells = dict(zip(header, rows[0], strict=True))
    assert (cells["CAP"], cells["PIAP"], cells["CIoU@0.3, peak(0.5)"]) == ("", "", "100.0")
    assert not {"model/cap", "model/piap"} & metrics_of(summaries).keys()


def test_a_system_without_any_mixture_that_counts_has_no_scores():
    summaries = summarise(table(mixture("a", source(excluded="no truth"))), RULES)
    assert metrics_of(summaries) == {"model/num_mixtures": 0, "model/num_recordings": 0, "model/num_excluded": 1}
    assert "| model " in markdown(summaries, RULES)


def test_tables_name_the_rules_and_stand_from_low_to_high():
    results = table(
        mixture("a", source(0.625, iou=0.5), system="model"),
        mixture("a", source(0.25, iou=0.25), system="constant map"),
    )
    rules = ScoringRules(peak_share=0.1, fixed_threshold=0.7)
    header, rows = system_table(summarise(results, rules)[1], rules)
    assert header == [
        *("system", "AP", INTERVAL, "IoU@0.5, peak(0.1)", INTERVAL, "AUC, peak(0.1)"),
        *("IoU@0.5, half", "AUC, half", "IoU@0.5, fixed(0.7)", "AUC, fixed(0.7)", "mixtures", "recordings", "excluded"),
    ]
    assert [row[0] for row in rows] == ["constant map", "model"]
    assert rows[1][1:6] == ["62.5", "too few recordings", "100.0", "too few recordings", "52.5"]


def test_numbers_of_sources_have_tables_and_metrics_of_their_own():
    one, two = mixture("a", source(0.5, iou=0.5)), mixture("b", source(0.4, iou=0.5), source(0.4, iou=0.5))
    both = summarise(table(one, two), RULES)
    text = markdown(both, RULES)
    assert text.index("Mixtures of 1 source:") < text.index("IoU@0.5") < text.index("Mixtures of 2 sources:")
    assert "CIoU@0.3, peak(0.5)" in text
    metrics = metrics_of(both)
    assert metrics["model/ap_1_sources"] == 0.5
    assert metrics["model/cap_2_sources"] == metrics["model/piap_2_sources"] == pytest.approx(0.4)
    assert metrics["model/ciou_slot_2_sources"] == 1
    other = [{**row, "system": "constant map, split"} for row in two]
    assert metrics_of(summarise(table(other), RULES))["constant_map_split/auc_half"] == pytest.approx(0.275)


def test_by_class_takes_sources_of_mixtures_that_count():
    results = table(
        mixture("a", source(0.5, iou=0.25), source(1.0, iou=1.0)),
        mixture("b", source(1.0, iou=0.75)),
        mixture("c", source(excluded="no truth"), source(0.0, iou=0.0)),
        mixture("a", source(0.0, iou=0.0), source(0.0, iou=0.0), system="other"),
    )
    found = by_class(results, "model", CLASSES)
    assert found.to_pylist() == [
        {"class": "drum", "sources": 1, "iou_peak": 1.0, "iou_half": 0.5, "ap": 1.0, "ap_sources": 1},
        {"class": "bell", "sources": 2, "iou_peak": 0.5, "iou_half": 0.25, "ap": 0.75, "ap_sources": 2},
    ]
    header, rows = class_table(found, RULES)
    assert header == ["class", "sources", "mean IoU, peak(0.5)", "mean IoU, half", "AP", "of sources"]
    assert rows[1] == ["bell", "2", "50.0", "25.0", "75.0", "2"]


def test_by_class_counts_the_sources_that_the_ap_is_of():
    """A map for all sources has no AP of several."""
    results = table(mixture("a", source(iou=0.25), source(iou=1.0)), mixture("b", source(1.0, iou=0.75)))
    header, rows = class_table(by_class(results, "model", CLASSES), RULES)
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(row["class"], row["sources"], row["AP"], row["of sources"]) for row in found] == [
        ("drum", "1", "", "0"),
        ("bell", "2", "100.0", "1"),
    ]


def test_presence_is_told_of_what_is_heard_and_seen():
    results = table(
        mixture("a", source(0.5), source(0.5), predicted_classes=[BELL, DRUM], visual_classes=[BELL]),
        mixture("b", source(excluded="no truth"), source(), predicted_classes=[BELL, DRUM, HARP], visual_classes=[]),
    )
    found = presence_by_modality(results, "model", 3)
    audio, visual = found["audio"].micro, found["visual"].micro
    assert (audio.precision, audio.recall) == (pytest.approx(4 / 5), 1)
    assert (visual.precision, visual.recall) == (1, pytest.approx(1 / 4))
    assert found["audio"].num_mixtures == 2
    assert presence_by_modality(table(mixture("a", source(0.5))), "model", 3) == {}
