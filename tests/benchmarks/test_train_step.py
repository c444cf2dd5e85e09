"""The rate that a step's share is of."""

from __future__ import annotations

import time

import pytest

from tests.benchmarks.train_step import Peak


def test_a_peak_is_the_best_of_all_rounds_so_no_share_of_it_is_more_than_all(monkeypatch):
    durations = iter([4.0, 2.0, 8.0])
    clock = [0.0]
    warm_ups: list[float] = []

    def work() -> None:
        if len(warm_ups) < 3:
            warm_ups.append(100.0)
        else:
            clock[0] += next(durations)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    peak = Peak(work, 10.0, warm_up=3)
    assert clock == [0.0]
    rates = []
    for _ in range(3):
        peak.measure()
        rates.append(peak.rate)
    assert rates == [2.5, 5.0, 5.0]
    for seconds in (2.0, 3.0, 9.0):  # of a step in the same rounds that has as much to do
        assert 10.0 / seconds / peak.rate <= 1.0 + 1e-12
    assert pytest.approx(1.0) == 10.0 / 2.0 / peak.rate
