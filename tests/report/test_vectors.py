"""Scores of vectors against scikit-learn and definitions; pictures of any vectors there may be."""

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.lines import Line2D
from sklearn.neighbors import KNeighborsClassifier

from cocktail.report import vectors as module
from cocktail.report.vectors import project, vector_scores, vectors_figure, vectors_of, vectors_panel
from cocktail.tasks.separation.results import RESULTS

CLASSES = tuple(f"class {i}" for i in range(60))


def blobs(num_vectors: int, num_classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    class_ids = np.arange(num_vectors) % num_classes
    centres = generator.normal(size=(num_classes, 8))
    return (centres[class_ids] + spread * generator.normal(size=(num_vectors, 8))).astype(np.float32), class_ids


def silhouette_by_definition(vectors: np.ndarray, class_ids: np.ndarray) -> float:
    """Mean of (b - a) / max(a, b): a to the others of the own class, b to those of the nearest other class."""
    distances = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors, axis=2)
    values = []
    for v, own in enumerate(class_ids):
        rest = np.arange(len(vectors)) != v
        near = distances[v, rest & (class_ids == own)].mean()
        far = min(distances[v, class_ids == other].mean() for other in set(class_ids.tolist()) - {own})
        values.append((far - near) / max(near, far))
    return float(np.mean(values))


def num_points(line: Line2D) -> int:
    return len(np.asarray(line.get_xydata()))


@pytest.fixture
def no_projection(monkeypatch):
    """t-SNE takes a second; what it gives does not matter here."""
    monkeypatch.setattr(module, "project", lambda vectors: vectors[:, :2])


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_scores_are_those_of_the_definitions_with_each_vector_left_out(spread):
    vectors, class_ids = blobs(40, 3, spread)
    scores = vector_scores(vectors, class_ids)
    assert scores is not None
    right = 0
    for v in range(len(vectors)):
        rest = np.arange(len(vectors)) != v
        classifier = KNeighborsClassifier(5).fit(vectors[rest], class_ids[rest])
        right += classifier.predict(vectors[v : v + 1])[0] == class_ids[v]
    assert scores.knn5_accuracy == pytest.approx(right / 40)
    assert scores.silhouette == pytest.approx(silhouette_by_definition(vectors, class_ids), abs=1e-6)
    assert (scores.chance, scores.num_vectors, scores.num_classes) == (14 / 40, 40, 3)


def test_silhouette_by_hand_on_a_line():
    # Two classes, each of five equal vectors and one: at 0 (five) and 1, and at 10 (five) and 11.
    vectors = np.array([0.0] * 5 + [1.0] + [10.0] * 5 + [11.0])[:, None]
    class_ids = np.array([7] * 6 + [2] * 6)
    scores = vector_scores(vectors, class_ids)
    at_0 = 1 - (1 / 5) / ((5 * 10 + 11) / 6)
    at_1 = 1 - 1 / ((5 * 9 + 10) / 6)
    at_10 = 1 - (1 / 5) / ((5 * 10 + 9) / 6)
    at_11 = 1 - 1 / ((5 * 11 + 10) / 6)
    assert scores is not None
    assert scores.silhouette == pytest.approx((5 * at_0 + at_1 + 5 * at_10 + at_11) / 12)
    assert (scores.knn5_accuracy, scores.chance) == (1, 0.5)


def test_blobs_far_apart_are_recognised_and_equal_vectors_have_the_best_scores():
    scores = vector_scores(*blobs(60, 6, 1e-3))
    assert scores is not None and scores.knn5_accuracy == 1 and scores.silhouette > 0.99
    scores = vector_scores(*blobs(60, 6, 0.0))
    assert scores is not None and scores.knn5_accuracy == 1 and scores.silhouette == pytest.approx(1, abs=1e-6)


def test_vectors_that_know_nothing_of_their_class_score_near_chance():
    vectors, _ = blobs(600, 1, 1.0)
    scores = vector_scores(vectors, np.random.default_rng(1).integers(0, 2, 600))
    assert scores is not None
    assert abs(scores.knn5_accuracy - 0.5) < 0.07 and abs(scores.silhouette) < 0.02 and 0.5 <= scores.chance < 0.56


def test_tsne_parts_blobs_alike_each_time_and_gives_equal_vectors_one_point():
    vectors, class_ids = blobs(60, 4, 0.01)
    points = project(vectors)
    np.testing.assert_array_equal(points, project(vectors))
    scores = vector_scores(points, class_ids)
    assert scores is not None and scores.knn5_accuracy == 1
    vectors, class_ids = blobs(60, 4, 0.0)
    points = project(vectors)
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == 4
    assert all(len(np.unique(points[class_ids == i], axis=0)) == 1 for i in range(4))
    assert len(np.unique(project(vectors[class_ids < 2]), axis=0)) == 2


@pytest.mark.parametrize(
    ("vectors", "class_ids", "message", "scored"),
    [
        (np.zeros((0, 0)), np.zeros(0, int), "0 vectors: too few", False),
        (np.eye(9, 4), np.arange(9) % 2, "9 vectors: too few", False),
        (np.eye(12, 4), np.zeros(12, int), "of one class", False),
        (np.eye(12, 4), np.arange(12), "none has a neighbour", False),
        (np.ones((12, 4)), np.arange(12) % 2, "all vectors are the same", True),
    ],
)
def test_what_cannot_be_drawn_has_a_message_in_its_place(vectors, class_ids, message, scored):
    figure, scores = vectors_figure(vectors, class_ids, CLASSES, "model")
    assert message in figure.axes[0].texts[0].get_text()
    assert not figure.axes[0].lines
    assert (scores is not None) == scored


def test_the_figure_names_classes_and_states_scores_and_chance(no_projection):
    figure, scores = vectors_figure(*blobs(30, 3, 0.0), CLASSES, "static_class")
    assert scores is not None and scores.num_vectors == 30
    (axis,) = figure.axes
    assert axis.get_title().splitlines() == [
        "static_class",
        "silhouette 1.00, 5-NN accuracy 1.00 (chance 0.33)",
        "30 vectors (3 distinct), 3 classes",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["class 0", "class 1", "class 2"]


def test_all_vectors_are_drawn_in_their_class_colour_the_same_in_every_system(no_projection):
    one, two = blobs(40, 4, 0.5), blobs(30, 2, 0.5, seed=1)
    figure, scores = vectors_panel({"one": one, "two": two}, CLASSES)
    assert list(scores) == ["one", "two"]
    for axis, (vectors, class_ids) in zip(figure.axes, (one, two), strict=True):
        _, *lines = axis.lines
        for class_id, line in enumerate(lines):
            np.testing.assert_array_equal(line.get_xydata(), vectors[class_ids == class_id, :2])
    styles = [[(line.get_color(), line.get_marker()) for line in axis.lines[1:]] for axis in figure.axes]
    assert styles[0] == styles[1] and len(set(styles[0])) == 4


def test_up_to_forty_classes_look_different_and_of_more_the_most_frequent_do(no_projection):
    figure, _ = vectors_figure(*blobs(80, 40, 1.0), CLASSES, "")
    looks = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines[1:]}
    assert len(looks) == 40
    vectors, class_ids = blobs(120, 60, 1.0)
    class_ids[class_ids >= 50] = 33  # the most frequent; then equally many of each
    figure, _ = vectors_figure(vectors, class_ids, CLASSES, "")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == 21 and "class 33" in texts and texts[-1] == "30 less frequent"
    drawn = [num_points(line) for line in figure.axes[0].lines]
    assert drawn[0] == 120 - sum(drawn[1:]) == 30 * 2


def test_of_too_many_vectors_some_are_drawn_and_all_are_scored(no_projection, monkeypatch):
    monkeypatch.setattr(module, "MOST_DRAWN", 25)
    figure, scores = vectors_figure(*blobs(100, 4, 1.0), CLASSES, "")
    assert scores is not None and scores.num_vectors == 100
    assert sum(num_points(line) for line in figure.axes[0].lines) == 25
    assert "25 drawn of 100 vectors" in figure.axes[0].get_title()


def test_vectors_of_a_system_come_without_rows_that_lack_a_vector_or_a_class():
    rows = [
        {"system": "model", "class_id": 3, "source_vector": [1.0, 2.0]},
        {"system": "model", "class_id": -1, "source_vector": [3.0, 4.0]},
        {"system": "model", "class_id": 5, "source_vector": None},
        {"system": "model", "class_id": 4, "source_vector": [5.0, 6.0]},
        {"system": "mixture", "class_id": 3, "source_vector": None},
    ]
    results = pa.Table.from_pylist(rows, schema=pa.schema([RESULTS.field(name) for name in rows[0]]))
    vectors, class_ids = vectors_of(results, "model")
    assert vectors.dtype == np.float32 and vectors.tolist() == [[1, 2], [5, 6]]
    assert class_ids.tolist() == [3, 4]
    vectors, class_ids = vectors_of(results, "mixture")
    assert (len(vectors), len(class_ids)) == (0, 0)
