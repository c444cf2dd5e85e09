"""Labels of Freesound recordings, from FSD50K's own files or from a table of the user's: FUSS releases none.

Fonseca et al., "FSD50K: an Open Dataset of Human-Labeled Sound Events". Used is its collection,
`FSD50K.metadata/collection/`: the labels before parents were added and classes merged. `collection_{dev,eval}.csv`
has the header fname,labels,mids, with the labels of a recording comma-separated in one field;
`vocabulary_collection_{dev,eval}.csv` has no header and the columns index, label, id in AudioSet's ontology.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cocktail.storage import join
from cocktail.types import UsageError
from pipelines.datasets.layouts import read_csv, read_json

PARTS = ("dev", "eval")
COLLECTION = "FSD50K.metadata/collection"

EXPECTED_COLLECTION = (
    'the released collection csv: fname,labels,mids, as in: 64760,"Guitar,Strum","/m/0342h,/m/07s0s5r"'
)
EXPECTED_VOCABULARY = "the released vocabulary csv: index,label,mid, as in: 1,Accordion,/m/0mkg"
EXPECTED_ONTOLOGY = "AudioSet's ontology.json: a list of {id, name, child_ids}"
EXPECTED_TABLE = 'a table of labels, {"<Freesound id>": "<label>"} or {"<Freesound id>": {"label": "<label>"}}'


class SourceLabels(NamedTuple):
    """Labels of Freesound recordings."""

    by_id: Mapping[str, Sequence[str]]
    """Labels of a Freesound id, the one to take first. An id without a label is not in it."""
    notes: tuple[str, ...] = ()
    """Sentences on what else a reader should know."""


class Word(NamedTuple):
    """A label of a vocabulary."""

    place: int
    mid: str
    """Id in AudioSet's ontology."""


def read_labels(
    fsd50k: str | None = None, ontology: str | None = None, table: str | None = None
) -> SourceLabels | None:
    """The labels of the one place that is given, FSD50K's folder or a table; None if neither is.

    Raises UsageError for two places, and for an ontology without FSD50K.
    """
    if fsd50k is not None and table is not None:
        raise UsageError(f"labels from two places: {fsd50k} and {table}. Give FSD50K's folder or a table, not both")
    if fsd50k is None and ontology is not None:
        raise UsageError(f"the ontology {ontology} orders FSD50K's labels: give FSD50K's folder too, or leave it out")
    if fsd50k is not None:
        return read_fsd50k(fsd50k, ontology)
    return None if table is None else read_table(table)


def read_fsd50k(root: str, ontology: str | None = None) -> SourceLabels:
    """The collection labels of FSD50K, dev and eval, in the order of their vocabulary.

    With AudioSet's ontology, a label is left out that is an ancestor of another label of the recording. Raises
    UsageError for a file that is not there or not what it should be.
    """
    ancestors = {} if ontology is None else read_ancestors(ontology)
    by_id: dict[str, Sequence[str]] = {}
    strange: set[str] = set()
    for part in PARTS:
        vocabulary = read_vocabulary(join(root, COLLECTION, f"vocabulary_collection_{part}.csv"))
        for freesound_id, labels in read_collection(join(root, COLLECTION, f"collection_{part}.csv")):
            strange.update(label for label in labels if label not in vocabulary)
            kept = drop_ancestors(labels, vocabulary, ancestors)
            if kept:
                by_id[freesound_id] = in_order(kept, vocabulary)
    notes = []
    if ontology is None:
        notes.append(
            "no AudioSet ontology was given: labels that are ancestors of a recording's others were not dropped"
        )
    if strange:
        notes.append(f"{len(strange)} labels of FSD50K are not in its vocabulary and come last, as {min(strange)!r}")
    return SourceLabels(by_id, tuple(notes))


def read_table(location: str) -> SourceLabels:
    """A table of labels by Freesound id, as JSON: `{id: label}` or `{id: {"label": label}}`."""
    table = read_json(location, EXPECTED_TABLE)
    if not isinstance(table, dict) or not table:
        raise UsageError(f"{location} holds no labels. Expected {EXPECTED_TABLE}")
    by_id = {}
    for freesound_id, entry in table.items():
        label = entry.get("label") if isinstance(entry, dict) else entry
        if not isinstance(label, str) or not label.strip():
            raise UsageError(f"{location}, {freesound_id!r}: no label: {entry!r}. Expected {EXPECTED_TABLE}")
        by_id[freesound_id] = (label.strip(),)
    return SourceLabels(by_id)


def read_collection(csv: str) -> Iterator[tuple[str, list[str]]]:
    """Freesound id and labels, as they stand, of every line; a few have none."""
    for number, (where, (name, labels, _)) in enumerate(read_csv(csv, EXPECTED_COLLECTION, num_columns=3)):
        if number == 0 and name == "fname":
            continue
        if not (name.isascii() and name.isdigit()):
            raise UsageError(f"{where}: Freesound id {name!r}. Expected {EXPECTED_COLLECTION}")
        yield name, [label.strip() for label in labels.split(",") if label.strip()]


def read_vocabulary(csv: str) -> dict[str, Word]:
    """The labels of a vocabulary, with or without a header."""
    words: dict[str, Word] = {}
    for number, (where, (place, label, mid)) in enumerate(read_csv(csv, EXPECTED_VOCABULARY, num_columns=3)):
        is_number = place.isascii() and place.isdigit() and len(place) < 10
        if not is_number and number > 0:
            raise UsageError(f"{where}: index {place!r}. Expected {EXPECTED_VOCABULARY}")
        if is_number:
            words[label] = Word(int(place), mid)
    if not words:
        raise UsageError(f"{csv} is empty. Expected {EXPECTED_VOCABULARY}")
    return words


def read_ancestors(ontology: str) -> dict[str, frozenset[str]]:
    """Ancestors of each id of AudioSet's ontology, in which a class can have several parents."""
    items = read_json(ontology, EXPECTED_ONTOLOGY)
    if not isinstance(items, list) or not all(_is_ontology_item(item) for item in items):
        raise UsageError(f"{ontology} is something else. Expected {EXPECTED_ONTOLOGY}")
    parents: dict[str, set[str]] = {item["id"]: set() for item in items}
    for item in items:
        for child in item["child_ids"]:
            parents.setdefault(child, set()).add(item["id"])
    return {mid: _closure(mid, parents) for mid in parents}


def _is_ontology_item(item: object) -> bool:
    children = item.get("child_ids") if isinstance(item, dict) else None
    return (
        isinstance(item, dict)
        and isinstance(item.get("id"), str)
        and isinstance(children, list)
        and all(isinstance(child, str) for child in children)
    )


def _closure(mid: str, parents: Mapping[str, set[str]]) -> frozenset[str]:
    ancestors: set[str] = set()
    waiting = [mid]
    while waiting:
        new = parents[waiting.pop()] - ancestors
        ancestors |= new
        waiting += new
    return frozenset(ancestors - {mid})


def drop_ancestors(
    labels: Sequence[str], vocabulary: Mapping[str, Word], ancestors: Mapping[str, frozenset[str]]
) -> list[str]:
    """The labels but those that are an ancestor of another of them; a label outside the vocabulary is none."""
    mids = [vocabulary[label].mid for label in labels if label in vocabulary]
    implied = frozenset().union(*(ancestors.get(mid, frozenset()) for mid in mids))
    return [label for label in labels if label not in vocabulary or vocabulary[label].mid not in implied]


def in_order(labels: Sequence[str], vocabulary: Mapping[str, Word]) -> tuple[str, ...]:
    """Labels in the order of a vocabulary, those outside it last, each once."""
    last = max(word.place for word in vocabulary.values()) + 1
    return tuple(
        sorted(set(labels), key=lambda label: (vocabulary[label].place if label in vocabulary else last, label))
    )
