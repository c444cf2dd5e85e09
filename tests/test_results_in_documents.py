"""Tables of README.md and docs/ are what their recorded results give, each with its commit and command."""

from __future__ import annotations

from pathlib import Path

from cocktail.studies.results_tables import fill_documents

PROJECT = Path(__file__).parents[1]


def test_every_table_in_a_marked_block_is_what_its_results_give() -> None:
    assert fill_documents(PROJECT, write=False) == [], "make results"
