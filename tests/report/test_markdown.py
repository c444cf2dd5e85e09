"""How numbers stand in tables."""

from __future__ import annotations

import pytest

from cocktail.report.markdown import format_cell, format_decimals


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [(-0.004, 2, "0.00"), (-0.04, 1, "0.0"), (-0.006, 2, "-0.01"), (1.005, 1, "1.0"), (-12.34, 1, "-12.3")],
)
def test_what_rounds_to_zero_has_no_sign(value: float, digits: int, shown: str) -> None:
    assert format_decimals(value, digits) == shown


def test_cells_hold_two_decimals_of_what_is_not_whole_and_nothing_of_what_is_not_there() -> None:
    assert [format_cell(value) for value in (-0.001, 3, 2.5, "cello", None, float("nan"))] == [
        *("0.00", "3", "2.50", "cello", "", ""),
    ]
