"""Tables of README.md and docs/ are what their recorded results give, each with its commit and command."""

from __future__ import annotations

from pathlib import Path

from cocktail.studies.results_tables import fill_documents

PROJECT = Path(__file__).parents[1]


def test_every_table_in_a_marked_block_is_what_its_results_give() -> None:
    assert fill_documents(PROJECT, write=False) == [], "make results"


def test_the_table_of_the_demo_is_among_them() -> None:
    assert "<!-- results: demo -->" in (PROJECT / "README.md").read_text("utf-8").splitlines()
