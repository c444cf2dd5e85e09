"""Means over draws of classes, by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from cocktail.tasks.separation.class_draws import class_draws
from cocktail.tasks.separation.results import RESULTS
from cocktail.tasks.separation.tables import SCORES
from tests.made.results.systems import columns_of


def results(scores: dict[tuple[int, int], float], system: str = "model") -> pa.Table:
    """A mixture of each pair of classes, of whose sources both have the score in dB."""
    rows = [
        {
            "mixture_id": f"{a}-{b}",
            **columns_of(system),
            "source": n,
            "recording": f"r{class_id}",
            "num_sources": 2,
            "class_id": class_id,
            **dict.fromkeys(SCORES, score),
        }
        for (a, b), score in scores.items()
        for n, class_id in enumerate((a, b))
    ]
    return pa.Table.from_pylist(rows, schema=RESULTS)


def test_each_draw_is_the_mean_over_the_mixtures_of_its_classes_alone():
    scores = {pair: float(10 * pair[0] + pair[1]) for pair in combinations(range(4), 2)}
    found = class_draws(results(scores), "model", 2, num_draws=400)
    assert found is not None and (found.num_classes, found.num_drawn, found.num_empty) == (4, 2, 0)
    # Two of four classes are one pair, each as likely as another.
    values = np.array(list(scores.values()))
    assert found.means["sdr"] == pytest.approx(values.mean(), abs=1.0)
    assert found.deviations["sdr"] == pytest.approx(values.std(), rel=0.15)
    assert class_draws(results(scores), "model", 2, num_draws=400) == found, "the same draws for the same classes"


def test_controls_have_their_means_over_the_same_draws():
    own = {pair: float(10 * pair[0] + pair[1]) for pair in combinations(range(4), 2)}
    floor = {pair: score - 7 for pair, score in own.items()}
    found = class_draws(pa.concat_tables([results(own), results(floor, "mixture")]), "model", 2)
    assert found is not None and list(found.controls) == ["mixture"]
    for score in SCORES:
        assert found.controls["mixture"][score] == pytest.approx(found.means[score] - 7)
    lines = [line for line in found.to_markdown().splitlines() if line.startswith("| mixture, mean of the draws")]
    assert len(lines) == 1 and f"{found.means['sdr'] - 7:.2f}" in lines[0]
    assert class_draws(results(own), "model", 2) != found and "sdr_mean" in found.values


def test_scores_that_are_alike_have_no_deviation_and_stand_in_a_table():
    scores = dict.fromkeys(combinations(range(15), 2), 5.0)
    found = class_draws(results(scores), "model", 11)
    assert found is not None
    assert (found.means["sir"], found.deviations["sir"]) == (pytest.approx(5.0), pytest.approx(0.0))
    assert "100 draws of 11 of the 15 classes" in found.to_markdown() and "5.00" in found.to_markdown()
    assert found.values["sdr_mean"] == pytest.approx(5.0)


def test_draws_without_a_mixture_are_counted_and_too_few_classes_give_none():
    found = class_draws(results({(0, 1): 3.0, (2, 3): 5.0}), "model", 2)
    assert found is not None and 0 < found.num_empty < 100
    assert 3 < found.means["sdr"] < 5 and f"{found.num_empty} draws had no mixture" in found.to_markdown()
    assert class_draws(results({(0, 1): 3.0}), "model", 2) is None


def test_mixtures_with_a_source_of_no_class_are_in_no_draw():
    found = class_draws(results({(-1, 0): 90.0, **dict.fromkeys(combinations(range(3), 2), 2.0)}), "model", 2)
    assert found is not None and found.num_classes == 3 and found.means["sdr"] == pytest.approx(2.0)
