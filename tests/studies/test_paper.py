"""The paper's numbers stand beside the settings that they are of, and beside no others."""

import pytest

from cocktail.studies.paper import (
    AVGN,
    AVGN_TABLE_3,
    AVGN_TABLE_4,
    SGN,
    SGN_TABLE_I,
    SGN_TABLE_III,
    SGN_TABLE_IV,
    paper_with,
)

PAPERS = {"model.depth": "6", "model.assignment": "soft", "model.source_vectors": "grouped_tokens"}
SMALL = {**PAPERS, "model.depth": "2"}


def printed(table, changes, settings=PAPERS):
    row = table.row_of(changes, settings)
    return None if row is None else table.rows[row].scores


@pytest.mark.parametrize(
    ("changes", "scores"),
    [
        ({"model.depth": 1}, (4.32, 8.18, 8.07)),
        ({"model.depth": 3, "model.assignment": "soft"}, (5.14, 10.80, 10.51)),
        ({"model.depth": 6}, (5.20, 10.81, 10.67)),
        ({"model.depth": 12}, (5.18, 10.65, 10.59)),
        ({"model.assignment": "hard"}, (3.25, 6.53, 6.36)),
        ({"model.depth": 2}, None),
        ({"model.depth": 1, "model.assignment": "hard"}, None),
        ({"model.depth": 1, "training.learning_rate": 0.1}, None),
    ],
)
def test_depth_and_grouping_have_table_iv_beside_them(changes, scores):
    assert printed(SGN_TABLE_IV, changes) == scores


@pytest.mark.parametrize(
    ("vectors", "scores"),
    [
        ("pooled_slots", (1.51, 5.92, 6.21)),
        ("tokens", (4.57, 8.36, 9.55)),
        ("grouped_queries", (3.32, 7.73, 8.56)),
        ("grouped_tokens", (5.20, 10.81, 10.67)),
        ("static_class", None),
    ],
)
def test_the_two_switches_have_table_iii_beside_them_at_any_depth_that_is_not_swept(vectors, scores):
    for settings in (PAPERS, SMALL):
        assert printed(SGN_TABLE_III, {"model.source_vectors": vectors}, settings) == scores
    assert printed(SGN_TABLE_III, {"model.source_vectors": vectors, "model.depth": 6}) == scores
    assert printed(SGN_TABLE_III, {"model.source_vectors": vectors, "model.depth": 1}) is None


def test_a_small_network_is_not_the_papers_although_it_changes_nothing():
    assert printed(SGN_TABLE_I, {}) == (5.20, 10.81, 10.67)
    assert printed(SGN_TABLE_I, {}, SMALL) is None
    assert printed(SGN_TABLE_IV, {"model.assignment": "hard"}, SMALL) is None


def test_a_model_without_these_settings_has_none():
    other = {"model.depth": "6"}
    assert [printed(table, {}, other) for table in (SGN_TABLE_I, SGN_TABLE_III, SGN_TABLE_IV)] == [None] * 3


def test_a_paper_is_found_by_its_scores():
    assert paper_with(["sdr", "si_sdri"]) is SGN
    assert paper_with(["ap_1_sources"]) is AVGN
    assert paper_with(["cap_3_sources"]) is None
    for paper in (SGN, AVGN):
        rows = [row for table in (paper.own, *paper.tables) for row in table.rows]
        assert {len(row.scores) for row in rows} == {len(paper.printed)}


@pytest.mark.parametrize(
    ("table", "changes", "scores"),
    [
        (AVGN.own, {}, (77.2, 58.1, 48.5, 50.6, 57.2, 32.5, 24.6)),
        (AVGN_TABLE_4, {"model.depth": 6}, (76.7, 57.5, 47.9, 50.1, 56.9, 32.1, 24.3)),
        (AVGN_TABLE_4, {"model.assignment": "hard"}, (73.2, 47.6, 43.1, 42.5, 49.2, 24.8, 21.5)),
        (AVGN_TABLE_4, {"model.depth": 2}, None),
        (AVGN_TABLE_3, {"model.source_vectors": "pooled"}, (71.5, 45.8, 41.2, 39.7, 43.1, 24.3, 21.3)),
        (AVGN_TABLE_3, {"model.source_vectors": "pooled", "model.depth": 1}, None),
    ],
)
def test_avgns_tables_stand_beside_settings_of_its_depth(table, changes, scores):
    assert printed(table, changes, {**PAPERS, "model.depth": "3"}) == scores
