"""Clips that a finished data set holds and that were set aside, counted by split, class and cause; and their levels."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from cocktail.audio.class_spectra import ClassSpectra
from cocktail.text.printable import in_csv
from pipelines.shards.manifest import Manifest

NO_LABEL = "(no label)"
SPLIT_ORDER = ("train", "validation", "val", "test", "eval")


@dataclass
class Count:
    """Clips of one kind."""

    num_good: int = 0
    num_bad: int = 0
    seconds: float = 0.0
    """Length of the good clips."""

    @property
    def num_planned(self) -> int:
        return self.num_good + self.num_bad

    @property
    def hours(self) -> float:
        return self.seconds / 3600


class Levels(NamedTuple):
    """Loudness of clips, from the manifest's values for each second; full scale is 1."""

    clip_rms: np.ndarray
    """Level of each whole clip, [clips]."""
    second_rms: np.ndarray
    """Level of each whole second of all clips, one after the other, [seconds]."""
    clip_of_second: np.ndarray
    """Row of the manifest that each second is of, [seconds]."""


def count_splits(manifest: Manifest, quarantine: pa.Table) -> dict[str, Count]:
    """Clips of each split, training first."""
    counts: dict[str, Count] = {}
    for split, seconds in zip(column(manifest.table, "split"), column(manifest.table, "duration"), strict=True):
        count = counts.setdefault(split, Count())
        count.num_good += 1
        count.seconds += seconds
    for split in column(quarantine, "split"):
        counts.setdefault(split, Count()).num_bad += 1
    rank = {split: number for number, split in enumerate(SPLIT_ORDER)}
    return {split: counts[split] for split in sorted(counts, key=lambda split: (rank.get(split, len(rank)), split))}


def count_classes(manifest: Manifest, quarantine: pa.Table) -> dict[tuple[str, str], Count]:
    """Clips by (label, split), a clip with several labels under each; classes without a clip are counted, too."""
    splits = list(count_splits(manifest, quarantine))
    counts = {(label, split): Count() for label in manifest.classes for split in splits}
    columns = (column(manifest.table, name) for name in ("labels", "split", "duration"))
    for labels, split, seconds in zip(*columns, strict=True):
        for label in labels or [NO_LABEL]:
            count = counts.setdefault((label, split), Count())
            count.num_good += 1
            count.seconds += seconds
    for labels, split in zip(column(quarantine, "labels"), column(quarantine, "split"), strict=True):
        for label in labels or [NO_LABEL]:
            counts.setdefault((label, split), Count()).num_bad += 1
    return counts


def measure_levels(manifest: Manifest) -> Levels:
    """Levels of clips and of their whole seconds. What is left after the last whole second counts for the clip."""
    rms = manifest.table["rms"].combine_chunks()
    num_seconds = np.diff(rms.offsets.to_numpy())
    values = rms.flatten().to_numpy().astype(np.float64)
    num_samples = manifest.table["num_samples"].to_numpy().astype(np.int64)
    clip = np.repeat(np.arange(len(num_samples)), num_seconds)
    second = np.arange(len(values)) - np.repeat(np.cumsum(num_seconds) - num_seconds, num_seconds)
    rate = manifest.sample_rate_hz
    samples = np.minimum(num_samples[clip] - second * rate, rate)
    energy = np.bincount(clip, weights=values**2 * samples, minlength=len(num_samples))
    whole = samples == rate
    return Levels(np.sqrt(energy / np.maximum(num_samples, 1)), values[whole], clip[whole])


def power_quantiles_hz(spectra: ClassSpectra, shares: Sequence[float]) -> np.ndarray:
    """The frequencies, in Hz, below which shares of each class's mean power lie, float64 [classes, shares], by whole
    bins; not a number of a class that was not measured."""
    cumulative = np.cumsum(spectra.power.astype(np.float64), axis=1)
    bins = (cumulative[:, None] < cumulative[:, -1:, None] * np.array(shares)[:, None]).sum(axis=2)
    return np.where(spectra.num_clips[:, None] > 0, spectra.frequencies_hz[bins], np.nan)


def by_centre(spectra: ClassSpectra) -> list[int]:
    """The numbers of the classes, those first half of whose mean power lies lowest, and last those without clips."""
    return np.argsort(power_quantiles_hz(spectra, [0.5])[:, 0], kind="stable").tolist()


def by_size(classes: Mapping[tuple[str, str], Count]) -> list[str]:
    """The labels of counts by (label, split), those with the most good clips first."""
    totals: Counter[str] = Counter()
    for (label, _), count in classes.items():
        totals[label] += count.num_good
    return sorted(totals, key=lambda label: (-totals[label], label))


def count_causes(quarantine: pa.Table) -> Counter[tuple[str, str]]:
    """Quarantined clips by (label, cause), a clip with several labels under each."""
    pairs = zip(column(quarantine, "labels"), column(quarantine, "reason"), strict=True)
    return Counter((label, reason) for labels, reason in pairs for label in labels or [NO_LABEL])


def most_first(counts: Counter) -> list:
    """The items of a counter, the largest count first, then in the order of their names."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def classes_csv(manifest: Manifest, classes: Mapping[tuple[str, str], Count]) -> bytes:
    """Table of all classes and splits, as csv."""
    class_ids = {label: class_id for class_id, label in enumerate(manifest.classes)}
    labels = {label: number for number, label in enumerate(by_size(classes))}
    header = ("class", "class_id", "split", "planned", "good", "quarantined", "hours")
    rows = (
        (label, class_ids.get(label, ""), split, c.num_planned, c.num_good, c.num_bad, f"{c.hours:.6f}")
        for (label, split), c in sorted(classes.items(), key=lambda item: labels[item[0][0]])
    )
    return _csv(header, rows)


def quarantine_csv(quarantine: pa.Table) -> bytes:
    """Table of all classes and causes, as csv."""
    rows = ((*key, count) for key, count in most_first(count_causes(quarantine)))
    return _csv(("class", "cause", "clips"), rows)


def column(table: pa.Table, name: str) -> list:
    """A column as Python values."""
    return table[name].to_pylist()


def spectra_csv(spectra: ClassSpectra, classes: Sequence[str]) -> bytes:
    """Table of the mean spectrum of each class, a row a class and a column a bin, in shares of its power, as csv."""
    header = ("class", "class_id", "clips", *(f"{frequency:.1f} Hz" for frequency in spectra.frequencies_hz))
    rows = (
        (label, class_id, spectra.num_clips[class_id], *(f"{share:.6g}" for share in spectra.power[class_id]))
        for class_id, label in enumerate(classes)
    )
    return _csv(header, rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence]) -> bytes:
    text = io.StringIO(newline="")
    cells = ([in_csv(cell) if isinstance(cell, str) else cell for cell in row] for row in (header, *rows))
    csv.writer(text).writerows(cells)
    return text.getvalue().encode()
