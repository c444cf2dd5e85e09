"""The paper's numbers stand beside the settings that they are of, and beside no others."""

import json

import pytest

from cocktail.studies.paper import Paper
from pipelines.papers import avgn, avsa_sep
from pipelines.papers.avgn import AVGN
from pipelines.papers.avsa_sep import AVSA_SEP
from pipelines.papers.sgn import SGN, TABLE_I, TABLE_III, TABLE_IV

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
    assert printed(TABLE_IV, changes) == scores


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
        assert printed(TABLE_III, {"model.source_vectors": vectors}, settings) == scores
    assert printed(TABLE_III, {"model.source_vectors": vectors, "model.depth": 6}) == scores
    assert printed(TABLE_III, {"model.source_vectors": vectors, "model.depth": 1}) is None


def test_a_small_network_is_not_the_papers_although_it_changes_nothing():
    assert printed(TABLE_I, {}) == (5.20, 10.81, 10.67)
    assert printed(TABLE_I, {}, SMALL) is None
    assert printed(TABLE_IV, {"model.assignment": "hard"}, SMALL) is None


def test_a_model_without_these_settings_has_none():
    other = {"model.depth": "6"}
    assert [printed(table, {}, other) for table in (TABLE_I, TABLE_III, TABLE_IV)] == [None] * 3


@pytest.mark.parametrize("paper", [SGN, AVGN])
def test_lines_have_all_scores_of_their_paper_and_those_of_ours_none(paper):
    rows = [row for table in (paper.own, *paper.tables) for row in table.rows]
    assert {len(row.scores) for row in rows if row.label != "static class"} == {len(paper.printed)}
    assert [row.scores for row in rows if row.label == "static class"] == ([()] if paper is SGN else [])


@pytest.mark.parametrize("paper", [SGN, AVGN, AVSA_SEP])
def test_a_paper_that_was_recorded_is_the_same(paper):
    assert Paper.of_record(json.loads(json.dumps(paper.to_record()))) == paper


@pytest.mark.parametrize(
    ("table", "changes", "scores"),
    [
        (AVGN.own, {}, (77.2, 58.1, 48.5, 50.6, 57.2, 32.5, 24.6)),
        (avgn.TABLE_4, {"model.depth": 6}, (76.7, 57.5, 47.9, 50.1, 56.9, 32.1, 24.3)),
        (avgn.TABLE_4, {"model.assignment": "hard"}, (73.2, 47.6, 43.1, 42.5, 49.2, 24.8, 21.5)),
        (avgn.TABLE_4, {"model.depth": 2}, None),
        (
            avgn.TABLE_3,
            {"model.source_vectors": "pooled", "mixing.num_sources": 1},
            (71.5, 45.8, 41.2, 39.7, 43.1, 24.3, 21.3),
        ),
        (avgn.TABLE_3, {"model.source_vectors": "pooled"}, None),  # learned from pairs
        (avgn.TABLE_3, {"model.source_vectors": "tokens"}, (75.2, 52.3, 45.1, 46.9, 51.8, 27.6, 22.5)),
        (avgn.TABLE_3, {"model.source_vectors": "pooled", "mixing.num_sources": 1, "model.depth": 1}, None),
    ],
)
def test_avgns_tables_stand_beside_settings_of_its_depth(table, changes, scores):
    assert printed(table, changes, {**PAPERS, "model.depth": "3", "mixing.num_sources": "2"}) == scores


@pytest.mark.parametrize(
    ("table", "changes", "scores"),
    [
        (avsa_sep.TABLE_3, {}, avsa_sep.PROPOSED),
        (avsa_sep.TABLE_3, {"model.branches": "labels"}, (None, None, 6.23, 12.80)),
        (avsa_sep.TABLE_3, {"evaluation.frames_from": "train"}, None),
        (avsa_sep.TABLE_3_TESTS, {"evaluation.frames_from": "train"}, (9.06, 16.92, None, None)),
        (
            avsa_sep.TABLE_3_TESTS,
            {"evaluation.split": "train", "evaluation.crop": "random", "evaluation.allow_trained_on": True},
            (10.73, 17.67, 9.72, 16.22),
        ),
        (avsa_sep.TABLE_3_TESTS, {}, avsa_sep.PROPOSED),
        (avsa_sep.OPEN, {"model.triplet_weight": 0.0}, None),
        (AVSA_SEP.own, {}, None),  # Table 2 is of three sources
        (AVSA_SEP.own, {"mixing.num_sources": 3}, (-0.30, 6.90, -1.41, 5.43)),
    ],
)
def test_avsa_seps_tables_are_of_two_sources_but_the_second(table, changes, scores):
    settings = {
        "model.branches": "both",
        "mixing.num_sources": "2",
        "model.triplet_weight": "0.1",
        "model.picture_weight": "1.5",
    }
    assert printed(table, changes, settings) == scores
