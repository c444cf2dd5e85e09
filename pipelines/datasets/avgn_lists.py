"""The test lists that AVGN released for VGG-SS and VGGSound-Instruments: what is tested, and what it is mixed with.

Mo and Tian, "Audio-Visual Grouping Network for Sound Localization from Mixtures". Csv files without a header:
`item,class` for single sources, `item,class,partner,partner's class` for two at once. The second is a map and no
pairing: the partner of an item's partner is mostly a third one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from cocktail.types import UsageError
from pipelines.datasets.layouts import read_csv

SINGLES_EXPECTED = "AVGN's list without a header: item, class, as in: zpWuikVorYg_000032,elk_bugling"
PAIRS_EXPECTED = "AVGN's list without a header: item, class, partner, partner's class"

_Said = TypeVar("_Said")


class Pair(NamedTuple):
    """An item as a list of pairs has it. Class names are as `listed_name` makes them."""

    name: str
    partner: str
    partner_name: str


def listed_name(label: str) -> str:
    """A class of VGG-Sound as the lists write it."""
    return label.replace(",", "").replace(" ", "_")


def read_singles(location: str) -> dict[str, str]:
    """The class name of each item, in the order of the list.

    Raises UsageError for a file that cannot be read or is empty, and for an item that is listed twice with
    different classes.
    """
    lines = read_csv(location, SINGLES_EXPECTED, num_columns=2)
    return _by_item(((line.where, line.fields[0], line.fields[1]) for line in lines), location, SINGLES_EXPECTED)


def read_pairs(location: str) -> dict[str, Pair]:
    """The pairs by item, in the order of the list. Raises UsageError as `read_singles` does."""
    lines = read_csv(location, PAIRS_EXPECTED, num_columns=4)
    said = ((line.where, line.fields[0], Pair(*line.fields[1:])) for line in lines)
    return _by_item(said, location, PAIRS_EXPECTED)


def _by_item(lines: Iterable[tuple[str, str, _Said]], location: str, expected: str) -> dict[str, _Said]:
    items: dict[str, _Said] = {}
    for where, item, said in lines:
        if items.setdefault(item, said) != said:
            raise UsageError(f"{where}: {item} is listed before, but with something else. Leave one of the two")
    if not items:
        raise UsageError(f"{location} is empty. Expected {expected}")
    return items


def check_singles(listed: Mapping[str, str], names: Mapping[str, str], location: str) -> list[str]:
    """Notes on a list of single sources, given the class name of each item of the data set.

    Raises UsageError for a list that names no item with its class: it belongs to another data set.
    """
    misnamed = [_misnaming(item, name, names) for item, name in listed.items() if names.get(item, name) != name]
    if sum(item in names for item in listed) == len(misnamed):
        example = f": {misnamed[0]}" if misnamed else ""
        raise UsageError(
            f"{location} names no item of this data set with its class{example}. Expected {SINGLES_EXPECTED}"
        )
    absent = [item for item in listed if item not in names]
    listing = base_name(location)
    return [
        *count(absent, f"items of {listing} are not in this data set"),
        *count(misnamed, f"items have another class in {listing}"),
    ]


def check_pairs(pairs: Mapping[str, Pair], names: Mapping[str, str], location: str) -> list[str]:
    """Notes on a list of pairs. Raises UsageError as `check_singles` does."""
    notes = check_singles({item: pair.name for item, pair in pairs.items()}, names, location)
    present = {item: pair for item, pair in pairs.items() if item in names}
    misnamed = [
        _misnaming(pair.partner, pair.partner_name, names)
        for pair in present.values()
        if names.get(pair.partner, pair.partner_name) != pair.partner_name
    ]
    alike = [f"{item} and {pair.partner}" for item, pair in present.items() if pair.name == pair.partner_name]
    absent = [f"{pair.partner} of {item}" for item, pair in present.items() if pair.partner not in names]
    listing = base_name(location)
    return [
        *notes,
        *count(misnamed, f"partners have another class in {listing}"),
        *count(absent, f"partners in {listing} are not in this data set"),
        *count([item for item in names if item not in pairs], f"items have no partner in {listing}"),
        *count(alike, f"pairs of {listing} are of one class: scores by class leave them out"),
    ]


def _misnaming(item: str, name: str, names: Mapping[str, str]) -> str:
    return f"{item} as {name}, not {names[item]}"


def base_name(location: str) -> str:
    """A file or folder as notes name it: the manifest keeps them, and must not depend on where the data lie."""
    return location.rstrip("/").rpartition("/")[2]


def count(items: Sequence[str], sentence: str) -> list[str]:
    """A note with the number of items and the first of them; none if there are none."""
    return [f"{len(items)} {sentence}; the first: {items[0]}"] if items else []
