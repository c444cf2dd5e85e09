"""Two systems that localize, compared by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cocktail.config.mixing import Mixing
from cocktail.metrics.intervals import Recordings
from cocktail.studies.comparison import Side, compare
from cocktail.studies.comparison_report import comparison_figure, store_comparison, to_markdown
from cocktail.studies.scored_run import ScoredRun
from cocktail.tasks.localization.mixtures import SAME_CLASS
from cocktail.tasks.localization.results import LOCALIZATION_RESULTS
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.localization.scores import LocalizationScores
from cocktail.tasks.localization.tables import summarise
from cocktail.tasks.scores import Score
from cocktail.types import MixtureBatch, UsageError
from tests.made.models.left_half import LeftHalf
from tests.made.results.localized_results import by_rules, mixture, source, table
from tests.made.results.sides import side as separated

ONE = {"s1": 0.5, "s2": 0.2, "s3": 0.1}
"""IoU by mixture of one source."""


def results(ious: dict[str, float], pairs: dict[str, tuple[float, float]], system: str = "model") -> pa.Table:
    """AP is half of the IoU."""
    single = [mixture(name, source(iou / 2, iou=iou), system=system) for name, iou in ious.items()]
    double = [mixture(name, *(source(v / 2, iou=v) for v in pair), system=system) for name, pair in pairs.items()]
    return scored(table(*single, *double))


def side(letter: str, found: pa.Table, **known) -> Side:
    return Side.of(letter, ScoredRun(results=found, name=f"run-{letter}", **{"stored": "x", **known}), None)


def scored(found: pa.Table, **rules: float) -> pa.Table:
    """Results that say by what rules they came about."""
    return by_rules(found, ScoringRules(**rules))


@pytest.fixture
def compared():
    a = side("A", results({"s1": 0.6, "s2": 0.2}, {"d1": (0.6, 0.2), "d2": (0.1, 0.1), "only": (1.0, 1.0)}))
    return compare(a, side("B", results(ONE, {"d1": (0.2, 0.2), "d2": (0.4, 0.4)}, system="other")))


def test_each_number_of_sources_is_compared_by_itself_in_percent(compared):
    assert (compared.num_common, compared.num_only_a, compared.num_only_b, compared.num_excluded) == (4, 1, 1, 0)
    found = {row["score"]: row for row in compared.differences.to_pylist()}
    assert list(found) == [
        *("ap_1_sources", "iou_1_sources", "auc_1_sources", "iou_half_1_sources", "auc_half_1_sources"),
        *("cap_2_sources", "piap_2_sources", "ciou_2_sources", "auc_2_sources"),
        *("ciou_half_2_sources", "auc_half_2_sources"),
    ]
    assert [found["ap_1_sources"][name] for name in ("mean_a", "mean_b", "difference")] == pytest.approx(
        [20, 17.5, 2.5]
    )
    success = found["iou_1_sources"]  # an IoU of 0.5 reaches the threshold
    assert (success["mean_a"], success["mean_b"], success["share_a_better"]) == (50, 50, 0)
    # IoUs 0.4 and 0.1 against 0.2 and 0.4: from 0.3 on d1 is found by A, d2 by B.
    assert found["ciou_2_sources"]["difference"] == 0
    assert (found["ciou_2_sources"]["mixtures"], found["ciou_2_sources"]["recordings"]) == (2, 4)
    assert found["ciou_2_sources"]["why_no_interval"] == "too few recordings"
    assert found["auc_2_sources"]["difference"] == pytest.approx(100 * (0.2 - 0.3) / 2)
    # By half IoUs are half of these, and 0.2 and 0.05 against 0.1 and 0.2 find no pair.
    by_half = found["ciou_half_2_sources"]
    assert (by_half["mean_a"], by_half["mean_b"]) == (0, 0)
    assert found["auc_half_2_sources"]["difference"] == pytest.approx(100 * (0.1 - 0.15) / 2)
    assert compared.mixtures["auc_1_sources_a"].null_count == 2  # of the two pairs


def test_mixtures_that_differ_most_are_of_the_score_asked_for(compared):
    most, least = compared.extremes("auc_2_sources", 9)
    assert (most["mixture_id"].to_pylist(), least["mixture_id"].to_pylist()) == (["d1", "d2"], [])
    text = to_markdown(compared, "auc_2_sources", 1)
    assert "## Largest A - B of AUC, 2 sources, in percent" in text
    assert "| d1 | class 0 + class 1 | 42.5 | 22.5 | +20.0 |" in " ".join(text.split())
    assert "| percent, higher is better | A | B |" in " ".join(text.split())
    assert "| CIoU@0.3, 2 sources | 50.0 | 50.0 | +0.0 | too few recordings | 50% | 2 | 4 |" in " ".join(text.split())
    assert "by peak(0.5)" in text
    points = np.asarray(comparison_figure(compared, "auc_1_sources").axes[0].collections[0].get_offsets())
    assert len(points) == 2
    with pytest.raises(UsageError, match="no score sdr of what is compared: give --score one of ap_1_sources, iou_1"):
        compared.score("sdr")
    assert compared.score(None).name == "auc_2_sources"


def test_where_only_one_run_has_pairs_the_headline_is_of_single_sources():
    a, b = side("A", results(ONE, {"d": (0.5, 0.5)})), side("B", results(ONE, {}))
    for found in (compare(a, b), compare(b, a)):
        assert found.score(None).name == "auc_1_sources"
        assert found.num_only_a + found.num_only_b == 1


def test_results_of_other_tasks_or_rules_are_refused():
    a = side("A", results(ONE, {}))
    with pytest.raises(UsageError, match="they are run-A of localization and run-B of separation"):
        compare(a, separated("B", {"s1": (1.0,)}))
    other = side("B", scored(results(ONE, {}), peak_share=0.1))
    with pytest.raises(UsageError, match=r"by different rules cannot be compared: .*peak_share=0.1.*evaluate.py"):
        compare(a, other)


def test_files_of_results_say_by_what_rules_they_came_about(tmp_path):
    for name, rules in (
        ("a", {}),
        ("b", {"peak_share": 0.2}),
        ("c", {"single_threshold": 0.3, "multi_threshold": 0.1}),
    ):
        pq.write_table(scored(results(ONE, {"d": (0.2, 0.2)}), **rules), tmp_path / f"{name}.parquet")
    a, b, c = (side_of_file(tmp_path / f"{name}.parquet") for name in "abc")
    titles = [score.title for score in compare(c, c).board.groups[0].scores]
    assert titles == ["AP", "IoU@0.3", "AUC", "IoU@0.3, half", "AUC, half"]
    assert "by peak(0.2)" in compare(b, b).board.about
    for other in (b, c):
        with pytest.raises(UsageError, match="by different rules cannot be compared"):
            compare(a, other)


def test_a_file_that_does_not_say_its_rules_is_refused_with_what_to_do(tmp_path):
    pq.write_table(results(ONE, {}).replace_schema_metadata(LOCALIZATION_RESULTS.metadata), tmp_path / "old.parquet")
    with pytest.raises(UsageError, match=r"old.parquet: nothing says by which rules .*: score the checkpoint again"):
        side_of_file(tmp_path / "old.parquet")


def side_of_file(path) -> Side:
    return Side.of("A", ScoredRun.read(str(path)), None)


def test_means_over_mixtures_are_the_scores_that_a_run_reports():
    generator = np.random.default_rng(0)
    rows = [
        mixture(f"{n}-{m}", *(source(*generator.random(2), iou=generator.random()) for _ in range(n)))
        for n in (1, 2)
        for m in range(20)
    ]
    rows += [mixture("none", source(excluded="no truth"), source(1.0, iou=1.0))]
    rows += [mixture("same", *(source(0.5, 0.7, iou=1.0, excluded=SAME_CLASS) for _ in range(2)))]
    found, rules = table(*rows), ScoringRules(multi_threshold=0.45)
    board = LocalizationScores(rules=rules, numbers=(1, 2))
    mixtures = board.mixtures(found, "model")
    (one,), (two,) = summarise(found, rules).values()
    expected = {
        **{f"{name}_1_sources": one.metrics[name] for name in ("ap", "iou", "auc")},
        **{f"{name}_2_sources": two.metrics[name] for name in ("cap", "piap", "ciou", "auc")},
    }
    assert {name: mixtures[name].drop_null().to_numpy().mean() / 100 for name in expected} == pytest.approx(expected)
    counts = {
        name: len(mixtures) - mixtures[name].null_count for name in ("ap_1_sources", "auc_2_sources", "piap_2_sources")
    }
    assert list(counts.values()) == [20, 20, 21]  # sources of one class count in PIAP


def test_success_has_the_intervals_of_a_share_in_percent_and_other_scores_those_of_a_mean():
    ious = {f"{n}": 0.9 - 0.1 * n for n in range(8)}
    board = compare(side("A", results(ious, {})), side("B", results(ious, {}))).board
    scores = {score.name: score for group in board.groups for score in group.scores}
    recordings = Recordings([[name] for name in ious])
    values = np.array([100.0] * 7 + [0.0])
    of_share, of_mean = recordings.interval_of_share(values / 100), recordings.interval(values)
    of_difference = recordings.interval_of_difference(values / 100)
    assert of_share is not None and of_mean is not None and of_difference is not None
    success, auc = scores["iou_1_sources"], scores["auc_1_sources"]
    assert success.mean_interval(values, recordings) == pytest.approx(100 * np.array(of_share))
    assert success.difference_interval(values, recordings) == pytest.approx(100 * np.array(of_difference))
    assert auc.mean_interval(values, recordings) == (of_mean.mean, of_mean.low, 100)
    assert auc.difference_interval(values, recordings) == of_mean


def test_two_that_succeed_alike_on_few_mixtures_may_differ_on_others():
    ious = {f"{n}": 0.9 for n in range(8)}
    found = compare(side("A", results(ious, {})), side("B", results(ious, {}))).differences.to_pylist()
    success = next(row for row in found if row["score"] == "iou_1_sources")
    assert success["difference"] == 0
    assert success["low"] == -success["high"] < -5


def test_what_rounds_to_nothing_has_no_minus():
    score = Score(name="auc", title="AUC", unit="percent", digits=1)
    assert (score.cell(-1e-9), score.signed(-1e-9), score.signed(-0.06)) == ("0.0", "+0.0", "-0.1")
    assert (score.interval(-1e-9, 2), score.cell(None), score.cell(float("nan"))) == ("0.0 to 2.0", "", "")


def test_overlays_of_the_mixtures_that_differ_most_are_stored(tmp_path):
    """Whole clips: one clip, and one picture, shows both sources."""
    test_list = pa.table({"mixture_id": ["d1", "d2"], "clip_id": [["a"], ["b"]], "class_id": [[0, 1]] * 2})
    known = {
        "tags": {"checkpoint": "c", "data": "/shards", "evaluation.arrangement": "whole"},
        "test_list": test_list,
    }

    def load(checkpoint):
        return SimpleNamespace(name="model", model=LeftHalf(), mixing=Mixing(num_sources=1), classes=("bell", "drum"))

    def read(run, rows, mixing):
        assert (mixing.arrangement, mixing.num_sources, rows["mixture_id"].to_pylist()) == ("whole", 2, ["d1"])
        return MixtureBatch(
            mixture_ids=("d1",),
            sources=torch.zeros(1, 2, 4000, dtype=torch.int16),
            gains=torch.ones(1, 2),
            class_ids=torch.tensor([[0, 1]]),
            present=torch.ones(1, 2, dtype=torch.bool),
            pictures=torch.zeros(1, 1, 1, 16, 16, 3, dtype=torch.uint8),
            truth=torch.ones(1, 2, 16, 16, dtype=torch.bool),
            has_truth=torch.ones(1, 2, dtype=torch.bool),
        )

    a = side("A", results({}, {"d1": (0.5, 0.5)}), **known)
    b = side("B", results({}, {"d1": (0.2, 0.2)}, system="other"))
    text = store_comparison(tmp_path, compare(a, b), None, 1, load, read)
    assert "A: [picture](examples-a/d1.png) [sounds](examples-a/d1/)" in text
    assert (tmp_path / "examples-a" / "d1.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "examples-a" / "d1" / "mixture.wav").exists()
    assert "No pictures and sounds of B" in text
