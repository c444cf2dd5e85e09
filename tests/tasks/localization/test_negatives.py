"""Negatives in results and tables of localization: they count in their own scores, and in nothing else."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
import torch

from cocktail.tasks.localization.mixtures import LocalizedMixtures
from cocktail.tasks.localization.negatives import ALL, QUARTER, negatives_table, summarise_negatives
from cocktail.tasks.localization.report import summary_of
from cocktail.tasks.localization.results import score_maps
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.localization.task import Localizing
from cocktail.types import Localization, Negative
from tests.made.results.localized_results import by_rules

SIDE = 8
RULES = ScoringRules()


def single_sources(negatives: list[str | None]) -> LocalizedMixtures:
    """Mixtures of a source each, in the left quarter of its picture, or nowhere."""
    B = len(negatives)
    shows = torch.tensor([kind is None for kind in negatives])
    left = (torch.arange(SIDE) < SIDE // 4).expand(B, 1, SIDE, SIDE)
    return LocalizedMixtures(
        mixture_ids=[f"m{b}" for b in range(B)],
        class_ids=torch.arange(B)[:, None],
        truths=left & shows[:, None, None, None],
        has_truth=shows[:, None],
        num_pictures=1,
        recordings=[[f"sound{b}"] for b in range(B)],
        negatives=[None if kind is None else Negative(kind, f"picture{b}") for b, kind in enumerate(negatives)],
    )


def results_of(mixtures: LocalizedMixtures, peaks: list[float]) -> pa.Table:
    """Results of a model that points at the left quarter, so sure as its peaks say."""
    left = (torch.arange(SIDE) < SIDE // 4).float().expand(len(peaks), 1, SIDE, SIDE)
    maps = left * torch.tensor(peaks)[:, None, None, None]
    return by_rules(score_maps(mixtures, "m", Localization(maps=maps, class_ids=mixtures.class_ids)), RULES)


KINDS = [None, None, None, "off_screen", "silent", "silent"]
SURE = results_of(single_sources(KINDS), [0.9, 0.8, 0.7, 0.75, 0.1, 0.2])


def test_rows_say_which_are_negatives_how_sure_a_system_is_and_nothing_of_where():
    rows = [row for row in SURE.to_pylist() if row["system"] == "m"]
    assert [row["negative"] for row in rows] == KINDS
    assert [row["excluded"] for row in rows] == [None] * 3 + ["negative"] * 3
    assert [row["picture_recording"] for row in rows] == [None] * 3 + ["picture3", "picture4", "picture5"]
    assert [row["confidence"] for row in rows] == pytest.approx([0.9, 0.8, 0.7, 0.75, 0.1, 0.2])
    assert [row["confidence_quarter"] for row in rows] == pytest.approx([row["confidence"] for row in rows])
    assert [row["iou_peak"] for row in rows] == [1, 1, 1, None, None, None]
    assert Localizing().is_scored(SURE).all()


def test_without_negatives_there_is_no_confidence_and_no_table():
    alone = results_of(replace(single_sources([None] * 3), negatives=None), [0.9, 0.8, 0.7])
    for name in ("confidence", "confidence_quarter", "negative", "picture_recording"):
        assert alone[name].null_count == len(alone)
    assert summarise_negatives(alone, RULES) == {}
    assert summarise_negatives(alone.drop_columns(["negative"]), RULES) == {}


def test_scores_of_each_kind_and_of_all_and_controls_are_equally_sure_of_all():
    summaries = summarise_negatives(SURE, RULES)
    assert list(summaries) == ["off_screen", "silent", ALL]
    by_system = {kind: {each.system: each for each in of} for kind, of in summaries.items()}
    # Of 0.9, 0.8, 0.75 and 0.7 the third is a negative: precision 1, 1 and 3/4 at recall 1/3, 2/3 and 1.
    off_screen = by_system["off_screen"]["m"].by_rule["peak"]
    assert off_screen.ap == pytest.approx((1 + 1 + 3 / 4) / 3) and off_screen.max_f1 == pytest.approx(6 / 7)
    assert by_system["silent"]["m"].by_rule["peak"].ap == 1
    assert by_system[ALL]["ideal map"].by_rule["peak"].ap == 1
    for control in ("constant map", "centred box"):
        assert by_system[ALL][control].by_rule["peak"].ap == 0  # they are in the wrong place
    counts = [(of["m"].num_positives, of["m"].num_negatives, of["m"].num_recordings) for of in by_system.values()]
    assert counts == [(3, 1, 5), (3, 2, 7), (3, 3, 9)]
    assert list(by_system[ALL]["m"].by_rule) == ["peak", "half", QUARTER]


def test_every_score_of_place_is_what_it_is_without_the_negatives():
    alone = SURE.filter(pa.array([negative is None for negative in SURE["negative"].to_pylist()]))
    with_them, without = (summary_of(each, "m", (), RULES) for each in (SURE, alone))
    assert {name: with_them.metrics[name] for name in without.metrics} == without.metrics
    assert with_them.headline == without.headline and "excluded" not in with_them.headline
    board = Localizing().scoreboard(SURE)
    assert board.mixtures(SURE, "m").equals(board.mixtures(alone, "m"))


def test_tables_and_metrics_name_kind_rule_and_counts():
    report = summary_of(SURE, "m", (), RULES)
    assert report.metrics["m/detection_ap_off_screen"] == pytest.approx(11 / 12)
    assert report.metrics["m/num_negatives_all"] == 3
    assert "Single sources and silent objects:" in report.text and "(Mo and Morgado, 2022)" in report.text
    header, rows = negatives_table(summarise_negatives(SURE, RULES)["silent"], RULES)
    assert header[:2] == ["system", "AP, peak(0.5)"] and header[-3:] == ["with source", "negatives", "recordings"]
    assert {len(row) for row in rows} == {len(header)}
    assert rows[-1][:2] in (["m", "100.0"], ["ideal map", "100.0"])
