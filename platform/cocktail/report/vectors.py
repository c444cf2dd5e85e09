"""Do source vectors part by class? A picture by t-SNE (SGN Fig. 3) and scores, as a picture cannot be asserted.

t-SNE (van der Maaten and Hinton, 2008) shows neighbourhoods only: scores are taken of the vectors themselves.

Shape letters: V vectors, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from cocktail.report.figures import shorten
from cocktail.types import NO_CLASS

FEWEST_VECTORS = 10
"""Fewest vectors of which there are a picture and a score."""
MOST_DRAWN = 2000
"""Most vectors that are drawn: of more, so many are chosen by chance; scores are of all."""
NUM_NEIGHBOURS = 5
MOST_COLOURED, COLOURED_OF_MORE = 40, 20
"""Numbers of classes: up to the first each has a colour and a marker; of more, the second number of most frequent."""
MARKERS = "os^"
"""Three: beside the 20 colours, up to 60 classes look different."""
SEED = 0


@dataclass(frozen=True, kw_only=True)
class VectorScores:
    """Scores of how well vectors part by class. Higher is better."""

    silhouette: float
    """Mean over vectors, in [-1, 1], by Euclidean distance (Rousseeuw, 1987); 0 for a class of one vector."""
    knn5_accuracy: float
    """Share of vectors whose class is that of most of the five nearest others; of a tie, the lower class id."""
    chance: float
    """Share of the largest class: the accuracy of always saying that."""
    num_vectors: int
    num_classes: int


def vectors_of(results: pa.Table, system: str, column: str = "source_vector") -> tuple[np.ndarray, np.ndarray]:
    """A system's vectors float32 [V, D] in a column of a table of results, and their class ids int64 [V].

    Rows without a vector or without a class are left out; V is 0 if that is all.
    """
    rows = results.select(["system", "class_id", column]).filter(pc.field("system") == system)
    rows = rows.filter(pc.field(column).is_valid() & (pc.field("class_id") != NO_CLASS))
    if not len(rows):
        return np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    return np.array(rows[column].to_pylist(), np.float32), rows["class_id"].to_numpy().astype(np.int64)


def why_not(vectors: np.ndarray, class_ids: np.ndarray) -> str | None:
    """Why vectors [V, D] of classes [V] cannot be scored; None if they can."""
    num_classes = len(np.unique(class_ids))
    if len(vectors) < FEWEST_VECTORS:
        return f"{len(vectors)} vectors: too few"
    if num_classes < 2:
        return f"{len(vectors)} vectors of one class:\nnothing to part"
    if num_classes == len(vectors):
        return f"{len(vectors)} vectors of as many classes:\nnone has a neighbour"
    return None


def vector_scores(vectors: np.ndarray, class_ids: np.ndarray) -> VectorScores | None:
    """Scores of vectors [V, D] of classes [V]; None if there are too few of either, see `why_not`."""
    if why_not(vectors, class_ids):
        return None
    vectors = vectors.astype(np.float64)
    _, labels, counts = np.unique(class_ids, return_inverse=True, return_counts=True)
    # Asked without points, the search leaves each vector out of its own neighbours, equal ones not.
    search = NearestNeighbors(n_neighbors=NUM_NEIGHBOURS).fit(vectors)
    neighbours = labels[search.kneighbors(return_distance=False)]
    votes = (neighbours[:, :, None] == np.arange(len(counts))).sum(axis=1)
    return VectorScores(
        silhouette=float(silhouette_score(vectors, labels)),
        knn5_accuracy=float((votes.argmax(axis=1) == labels).mean()),
        chance=float(counts.max() / len(labels)),
        num_vectors=len(labels),
        num_classes=len(counts),
    )


def vectors_figure(
    vectors: np.ndarray, class_ids: np.ndarray, classes: tuple[str, ...], title: str
) -> tuple[Figure, VectorScores | None]:
    """One system's vectors [V, D] of classes [V] by t-SNE, and their scores, as `vectors_panel` gives them."""
    figure, scores = vectors_panel({title: (vectors, class_ids)}, classes)
    return figure, scores[title]


def vectors_panel(
    systems: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...]
) -> tuple[Figure, dict[str, VectorScores | None]]:
    """A panel of each system's vectors [V, D] of classes [V] by t-SNE, side by side in the same colours, and their
    scores.

    Vectors that cannot be scored have None for scores, and a message in place of points.
    """
    styles, note = _styles(np.concatenate([class_ids for _, class_ids in systems.values()]))
    columns = -(-len(styles) // 20)
    figure = Figure(figsize=(4.6 * len(systems) + 2.2 * columns, 5), layout="constrained")
    axes = figure.subplots(1, len(systems), squeeze=False)[0]
    scores = {}
    for axis, (system, (vectors, class_ids)) in zip(axes, systems.items(), strict=True):
        scores[system] = vector_scores(vectors, class_ids)
        _draw_vectors(axis, vectors, class_ids, system, scores[system], styles)
    handles = [
        Line2D([], [], **style, linestyle="", label=shorten(classes[class_id], 24))
        for class_id, style in sorted(styles.items())
    ]
    if note:
        handles.append(Line2D([], [], color="#cccccc", marker=".", linestyle="", label=note))
    if handles:
        figure.legend(handles=handles, loc="outside right upper", ncols=columns, fontsize="small", frameon=False)
    return figure, scores


def _styles(class_ids: np.ndarray) -> tuple[dict[int, dict[str, Any]], str]:
    """Colour and marker of each class, and what the other classes are called if there are too many."""
    counts = Counter(class_ids.tolist())
    chosen = sorted(counts)
    note = ""
    if len(chosen) > MOST_COLOURED:
        chosen = sorted(sorted(chosen, key=lambda class_id: -counts[class_id])[:COLOURED_OF_MORE])
        note = f"{len(counts) - len(chosen)} less frequent"
    colours = matplotlib.colormaps["tab20"]
    # The map's colours come in pairs, a dark and a light one: the dark ones first.
    order = [*range(0, 20, 2), *range(1, 20, 2)]
    return {
        class_id: {"color": colours(order[i % 20]), "marker": MARKERS[i % len(MARKERS)], "markersize": 4}
        for i, class_id in enumerate(chosen)
    }, note


def _draw_vectors(
    axis: Any,
    vectors: np.ndarray,
    class_ids: np.ndarray,
    title: str,
    scores: VectorScores | None,
    styles: Mapping[int, Mapping[str, Any]],
) -> None:
    axis.set(xticks=[], yticks=[])
    message = why_not(vectors, class_ids) or ("all vectors are the same" if np.ptp(vectors, axis=0).max() == 0 else "")
    lines = [title]
    if scores is not None:
        accuracy = f"5-NN accuracy {scores.knn5_accuracy:.2f} (chance {scores.chance:.2f})"
        lines += [f"silhouette {scores.silhouette:.2f}, {accuracy}"]
        drawn = f"{MOST_DRAWN} drawn of " if scores.num_vectors > MOST_DRAWN else ""
        num_distinct = len(np.unique(vectors, axis=0))
        distinct = f" ({num_distinct} distinct)" if num_distinct < scores.num_vectors else ""
        lines += [f"{drawn}{scores.num_vectors} vectors{distinct}, {scores.num_classes} classes"]
    axis.set_title("\n".join(lines), fontsize="medium")
    if message:
        axis.text(0.5, 0.5, message, transform=axis.transAxes, ha="center", va="center")
        return
    if len(vectors) > MOST_DRAWN:
        chosen = np.random.default_rng(SEED).choice(len(vectors), MOST_DRAWN, replace=False)
        vectors, class_ids = vectors[chosen], class_ids[chosen]
    points = project(vectors)
    others = ~np.isin(class_ids, list(styles))
    axis.plot(*points[others].T, linestyle="", marker=".", markersize=3, color="#cccccc")
    for class_id, style in styles.items():
        axis.plot(*points[class_ids == class_id].T, linestyle="", alpha=0.8, **style)
    axis.set(xlabel="t-SNE 1", ylabel="t-SNE 2")


def project(vectors: np.ndarray) -> np.ndarray:
    """Points [V, 2] that stand for vectors [V, D], which are not all the same, by t-SNE; the same each time.

    Equal vectors have one point: left to itself, t-SNE scatters them.
    """
    distinct, places = np.unique(vectors, axis=0, return_inverse=True)
    perplexity = min(30.0, max((len(distinct) - 1) / 3, 1.0))
    with threadpool_limits(1):  # threads that wait for busy cores make it ten times slower, and its sums vary
        return TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(distinct)[places]
