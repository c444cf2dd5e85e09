"""AP and max-F1 of confidence are SLAVC's, and their intervals hold what they should."""

import numpy as np
import pytest

from cocktail.metrics.detection import detection
from cocktail.metrics.intervals import Recordings


def items(number: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences that are higher where something is seen, and there where it is located; some are equal."""
    generator = np.random.default_rng(seed)
    shows = generator.random(number) < 0.5
    located = shows & (generator.random(number) < 0.6)
    confidence = np.round(generator.normal(size=number) + shows + 0.5 * located, 1)
    return confidence, located, shows


def at(threshold: float, confidence: np.ndarray, located: np.ndarray, shows: np.ndarray) -> tuple[float, float]:
    """Precision and recall, item by item."""
    true = false = missed = 0
    for sure, right, seen in zip(confidence, located, shows, strict=True):
        if sure >= threshold:
            true, false = true + bool(right and seen), false + (not (right and seen))
        else:
            missed += bool(seen)
    return true / (true + false), true / (true + missed) if true + missed else 0.0


def test_four_items_by_hand():
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    scores = detection(confidence, np.array([1, 0, 1, 0], bool), np.array([1, 0, 1, 1], bool))
    # Precision 1, 1/2, 2/3, 1/2 at recall 1/3, 1/3, 2/3, 1: the last is in the wrong place, and missed by nothing.
    assert scores.ap == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert scores.max_f1 == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_each_threshold_item_by_item(seed):
    given = items(60, seed)
    curve = [at(threshold, *given) for threshold in np.unique(given[0])[::-1]]
    recalls = np.diff([recall for _, recall in curve], prepend=0)
    best = [max(precision for precision, _ in curve[n:]) for n in range(len(curve))]
    scores = detection(*given)
    assert scores.ap == pytest.approx(recalls @ best)
    assert scores.max_f1 == pytest.approx(max(2 * p * r / (p + r) for p, r in curve if p + r))
    assert scores.ap_values.mean() == pytest.approx(scores.ap)
    assert scores.f1_values.mean() == pytest.approx(scores.max_f1)


def test_who_is_equally_sure_of_all_has_the_share_of_what_is_located():
    _, located, shows = items(50, 0)
    scores = detection(np.full(50, 0.3), located, shows)
    assert scores.ap == pytest.approx(located.mean())
    assert scores.max_f1 == pytest.approx(2 * located.sum() / (located.sum() + 50))


def test_a_negative_that_is_found_first_costs_and_one_that_is_found_last_does_not():
    shows = located = np.array([True, True, True, False])
    last = detection(np.array([3.0, 2.0, 1.0, 0.0]), located, shows)
    first = detection(np.array([3.0, 2.0, 1.0, 4.0]), located, shows)
    assert (last.ap, last.max_f1) == (1, 1)
    assert first.ap == pytest.approx(3 / 4) and first.max_f1 == pytest.approx(6 / 7)


def test_where_nothing_is_located_both_are_zero_and_without_a_confidence_there_is_none():
    nothing = np.zeros(4, bool)
    scores = detection(np.arange(4.0), nothing, np.array([True, True, False, False]))
    assert (scores.ap, scores.max_f1) == (0, 0) and not scores.ap_values.any()
    with pytest.raises(ValueError, match="2 items, not all with a finite confidence"):
        detection(np.array([0.0, np.nan]), nothing[:2], ~nothing[:2])


def test_intervals_hold_the_scores_of_many_items_about_as_often_as_they_say():
    true = detection(*items(20000, 1000))
    held = {"ap": 0, "f1": 0}
    for seed in range(120):
        scores = detection(*items(150, seed))
        recordings = Recordings([(str(m),) for m in range(150)])
        for name, of_all, values in (("ap", true.ap, scores.ap_values), ("f1", true.max_f1, scores.f1_values)):
            interval = recordings.interval_of_share(values)
            assert interval is not None
            held[name] += interval.low <= of_all <= interval.high
    assert all(105 <= count <= 119 for count in held.values()), held
