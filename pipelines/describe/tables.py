"""Tables of what a finished data set holds: how much of what, how long, how loud, and what was set aside and why."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from cocktail.audio.class_spectra import ClassSpectra
from cocktail.cluster.connection import connect
from cocktail.config.mixing import Mixing
from cocktail.drawing import to_png
from cocktail.storage import join, write_atomic
from cocktail.text.printable import in_markdown, on_one_line
from cocktail.types import UsageError
from pipelines.describe.counts import (
    Count,
    by_centre,
    by_size,
    classes_csv,
    column,
    count_causes,
    count_classes,
    count_splits,
    measure_levels,
    most_first,
    power_quantiles_hz,
    quarantine_csv,
    spectra_csv,
)
from pipelines.describe.figures import draw_all, spectra_figure
from pipelines.describe.spectra import class_spectra, clips_to_measure
from pipelines.shards.manifest import Manifest, open_manifest, read_quarantine
from pipelines.shards.reader import ClipSource

DPI = 100
LINES_SHOWN = 20
"""Lines printed of tables by class; the whole tables are written as csv."""

_QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}
_POWER_SHARES = {"5 %": 0.05, "half": 0.5, "95 %": 0.95}
_MOST_BOXES = 10


class TextTable(NamedTuple):
    """A table to print."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    remark: str = ""
    num_text_columns: int = 1
    """Columns aligned to the left; numbers follow."""


def describe(folder: str, output: str | None, num_clips: int, seed: int, spectra_split: str | None) -> None:
    """Print the tables of a finished data set, then write its csv files and figures into a folder, and name them.

    Without an `output` that is describe/ in the data set's own folder, where nothing minds it. For pictures and for
    spectrograms `num_clips` clips at most are drawn at random. The mean spectrum of each class is measured, on the
    cluster, on the clips of `spectra_split`; None reads none. Raises UsageError if there is no data set, if what is
    read of it is damaged, or for a negative number of clips.
    """
    if num_clips < 0:
        raise UsageError(f"--num-clips is {num_clips}: expected 0 or more")
    output = join(folder, "describe") if output is None else output
    manifest = open_manifest(folder)
    quarantine = read_quarantine(manifest)
    for table in tables(manifest, quarantine):
        print(f"{to_text(table)}\n", flush=True)
    classes = count_classes(manifest, quarantine)
    files = {"classes.csv": classes_csv(manifest, classes), "quarantine.csv": quarantine_csv(quarantine)}
    figures = draw_all(manifest, quarantine, num_clips, seed)
    spectra = None if spectra_split is None else _measure_spectra(manifest, spectra_split, output)
    if spectra is not None and spectra_split is not None:
        print(f"{to_text(spectra_table(spectra, manifest.classes, spectra_split))}\n", flush=True)
        files["spectra.csv"] = spectra_csv(spectra, manifest.classes)
        figures = itertools.chain(figures, [("spectra.png", spectra_figure(spectra, manifest.classes))])
    for name, data in (*files.items(), *((name, to_png(figure, DPI)) for name, figure in figures)):
        write_atomic(join(output, name), data)
        print(join(output, name), flush=True)


def _measure_spectra(manifest: Manifest, split: str, output: str) -> ClassSpectra | None:
    """The mean spectra of the classes; None, said in a line, if no clip can be measured, or of too many classes."""
    if not len(manifest.table) or not len(clips_to_measure(manifest, split, Mixing.silence_dbfs)):
        print(f"no mean spectra of classes: no clip of one class in the split {split} sounds\n", flush=True)
        return None
    return class_spectra(manifest, split, Mixing.silence_dbfs, output, ClipSource.of(manifest), connect)


def tables(manifest: Manifest, quarantine: pa.Table) -> Iterator[TextTable]:
    """The tables, in the order in which one asks."""
    splits = count_splits(manifest, quarantine)
    classes = count_classes(manifest, quarantine)
    yield dataset_table(manifest)
    yield split_table(splits)
    yield class_table(classes, list(splits), len(manifest.table))
    if quarantine.num_rows:
        yield cause_table(quarantine, list(splits))
        yield class_cause_table(quarantine)
    if len(manifest.table):
        yield duration_table(manifest, list(splits))
        yield loudness_table(manifest, list(splits))
        yield picture_table(manifest)
    yield from group_tables(manifest)
    if manifest.table["boxes"].null_count < len(manifest.table):
        yield box_table(manifest)


def dataset_table(manifest: Manifest) -> TextTable:
    """The data set as a whole, with the notes of its index."""
    totals = manifest.metadata
    share = _percent(int(totals["quarantined"]), int(totals["planned"]))
    sounds, masks = (sum(filter(None, column(manifest.table, name))) for name in ("audio_bytes", "mask_bytes"))
    pictures = sum(map(sum, column(manifest.table, "frame_sizes")))
    rows = {
        "data set": manifest.dataset,
        "root hash": manifest.root_hash,
        "sound": f"{manifest.sample_rate_hz} Hz, mono, 16 bits, {manifest.audio_format}",
        "classes": str(len(manifest.classes)),
        "clips planned": totals["planned"],
        "clips good": totals["good"],
        "clips quarantined": f"{totals['quarantined']} ({share})",
        "hours": f"{sum(column(manifest.table, 'duration')) / 3600:.3f}",
        "shards with clips": str(len(manifest.table["shard"].unique())),
        "MB": f"{int(totals['bytes']) / 1e6:.1f}",
        "MB of sound, pictures, masks": f"{sounds / 1e6:.1f}, {pictures / 1e6:.1f}, {masks / 1e6:.1f}",
    }
    remark = "\n".join(f"note: {on_one_line(note)}" for note in manifest.notes)
    return TextTable("Data set", ("what", "value"), list(rows.items()), remark, num_text_columns=2)


def split_table(splits: Mapping[str, Count]) -> TextTable:
    """Numbers of planned, good and quarantined clips."""
    total = Count()
    for count in splits.values():
        total = Count(total.num_good + count.num_good, total.num_bad + count.num_bad, total.seconds + count.seconds)
    rows = [
        (name, *map(str, (count.num_planned, count.num_good, count.num_bad)),
         _percent(count.num_bad, count.num_planned), f"{count.hours:.3f}")
        for name, count in [*splits.items(), ("all", total)]
    ]  # fmt: skip
    return TextTable("Clips by split", ("split", "planned", "good", "quarantined", "share", "hours of good"), rows)


def class_table(classes: Mapping[tuple[str, str], Count], splits: Sequence[str], num_clips: int) -> TextTable:
    """The good clips, `num_clips` in all, by class and split, the largest classes first."""
    header = ("class", *(f"{split} {unit}" for split in splits for unit in ("clips", "h")), "quarantined")
    rows = []
    for label in by_size(classes):
        counts = [classes.get((label, split), Count()) for split in splits]
        cells = [cell for count in counts for cell in (str(count.num_good), f"{count.hours:.3f}")]
        rows.append((label, *cells, str(sum(count.num_bad for count in counts))))
    several = sum(count.num_good for count in classes.values()) > num_clips
    table = _first_lines("Good clips and hours by class", header, rows, "classes.csv")
    remarks = [table.remark, "A clip with several labels counts under each." if several else ""]
    return table._replace(remark="\n".join(filter(None, remarks)))


def cause_table(quarantine: pa.Table, splits: Sequence[str]) -> TextTable:
    """Why clips were set aside."""
    counts = Counter(zip(column(quarantine, "reason"), column(quarantine, "split"), strict=True))
    totals = Counter(column(quarantine, "reason"))
    rows = [
        (reason, *(str(counts[reason, split]) for split in splits), str(total)) for reason, total in most_first(totals)
    ]
    return TextTable("Quarantined clips by cause", ("cause", *splits, "all"), rows)


def class_cause_table(quarantine: pa.Table) -> TextTable:
    """Why clips of which classes were set aside."""
    counts = count_causes(quarantine)
    rows = [(label, reason, str(count)) for (label, reason), count in most_first(counts)]
    title = "Quarantined clips by class and cause"
    return _first_lines(title, ("class", "cause", "clips"), rows, "quarantine.csv", num_text_columns=2)


def duration_table(manifest: Manifest, splits: Sequence[str]) -> TextTable:
    """Lengths of the good clips."""
    seconds, split = manifest.table["duration"].to_numpy(), np.array(column(manifest.table, "split"))
    rows = [
        (name, str(int(chosen.sum())), *_quantiles(seconds[chosen]))
        for name, chosen in _choices(split, splits)
    ]  # fmt: skip
    return TextTable("Duration of clips, in s", ("split", "clips", *_QUANTILES), rows)


def loudness_table(manifest: Manifest, splits: Sequence[str]) -> TextTable:
    """Levels of the seconds of the good clips."""
    levels, split = measure_levels(manifest), np.array(column(manifest.table, "split"))
    threshold_dbfs = Mixing.silence_dbfs
    sounding = levels.second_rms >= 10 ** (threshold_dbfs / 20)
    rows = []
    for name, chosen in _choices(split[levels.clip_of_second], splits):
        silent = int((chosen & ~sounding).sum())
        level_db = 20 * np.log10(levels.second_rms[chosen & sounding])
        rows.append((name, str(int(chosen.sum())), str(silent), _percent(silent, chosen.sum()), *_quantiles(level_db)))
    header = ("split", "whole seconds", "silent", "share", *_QUANTILES)
    remark = f"A second is silent below {threshold_dbfs:g} dBFS; 0 dBFS is an rms of full scale."
    return TextTable("Level (rms) of the seconds that sound, in dBFS", header, rows, remark)


def spectra_table(spectra: ClassSpectra, classes: Sequence[str], split: str) -> TextTable:
    """Where the power of each class lies, those of low sound first; classes without a clip are left out."""
    quantiles = power_quantiles_hz(spectra, list(_POWER_SHARES.values()))
    rows = [
        (classes[i], str(spectra.num_clips[i]), *(f"{frequency:.0f}" for frequency in quantiles[i]))
        for i in by_centre(spectra)
        if spectra.num_clips[i]
    ]
    header = ("class", "clips", *(f"{share} below" for share in _POWER_SHARES))
    table = _first_lines(f"Power of classes by frequency, in Hz ({split})", header, rows, "spectra.csv")
    remark = "Means over the clips of one class, each of equal weight, however loud."
    return table._replace(remark="\n".join(filter(None, [table.remark, remark])))


def picture_table(manifest: Manifest) -> TextTable:
    """Numbers of pictures a clip, and of clips whose sound has a known place."""
    num_pictures = map(len, column(manifest.table, "frame_sizes"))
    rows = [(f"with {number} picture{'s' * (number != 1)}", str(count)) for number, count in _histogram(num_pictures)]
    rows.append(("with a mask", str(len(manifest.table) - manifest.table["mask_offset"].null_count)))
    rows.append(("with boxes", str(sum(bool(boxes) for boxes in column(manifest.table, "boxes")))))
    rows.append(("with a given partner", str(len(manifest.table) - manifest.table["partner"].null_count)))
    return TextTable("Pictures and truth", ("clips", "number"), rows)


def group_tables(manifest: Manifest) -> Iterator[TextTable]:
    """Numbers of sources that sound together as released, and their parts in that; nothing if there are none."""
    sizes = Counter(group for group in column(manifest.table, "group") if group is not None)
    if not sizes:
        return
    rows = [(str(size), str(count)) for size, count in _histogram(sizes.values())]
    yield TextTable(f"Groups: {len(sizes)}", ("sources in a group", "groups"), rows)
    roles = Counter(role for role in column(manifest.table, "role") if role is not None)
    if roles:
        yield TextTable("Roles", ("role", "clips"), [(role, str(count)) for role, count in most_first(roles)])


def box_table(manifest: Manifest) -> TextTable:
    """Numbers of boxes a clip."""
    known = [boxes for boxes in column(manifest.table, "boxes") if boxes is not None]
    counts = _histogram(min(len(boxes), _MOST_BOXES) for boxes in known)
    rows = [(f"{number}{' or more' * (number == _MOST_BOXES)}", str(count)) for number, count in counts]
    unknown = len(manifest.table) - len(known)
    return TextTable("Boxes", ("boxes in a clip", "clips"), [*rows, ("nobody said", str(unknown))])


def to_text(table: TextTable) -> str:
    """A table as Markdown with aligned columns, its title above and its remark below."""
    lines = [[in_markdown(cell) for cell in line] for line in (table.header, *table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]

    def aligned(cells: Sequence[str]) -> str:
        places = enumerate(zip(cells, widths, strict=True))
        padded = [cell.ljust(w) if n < table.num_text_columns else cell.rjust(w) for n, (cell, w) in places]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (width + 2) if number < table.num_text_columns else f"{'-' * (width + 1)}:"
        for number, width in enumerate(widths)
    )
    text = [on_one_line(table.title), "", aligned(lines[0]), f"|{rule}|", *map(aligned, lines[1:])]
    return "\n".join([*text, *(["", table.remark] if table.remark else [])])


def _first_lines(
    title: str, header: tuple[str, ...], rows: list[tuple[str, ...]], file: str, num_text_columns: int = 1
) -> TextTable:
    more = len(rows) - LINES_SHOWN
    remark = f"{more} lines more: all are in {file}" if more > 0 else ""
    return TextTable(title, header, rows[:LINES_SHOWN], remark, num_text_columns)


def _choices(values: np.ndarray, splits: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Splits with their own values; then all, if there are several splits."""
    chosen = [(split, values == split) for split in splits]
    yield from ((split, own) for split, own in chosen if own.any())
    if len(chosen) > 1:
        yield "all", np.ones(len(values), bool)


def _quantiles(values: np.ndarray) -> list[str]:
    if not len(values):
        return ["-"] * len(_QUANTILES)
    return [f"{value:.2f}" for value in np.quantile(values, list(_QUANTILES.values()))]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "-"


def _histogram(values: Iterable[int]) -> list[tuple[int, int]]:
    return sorted(Counter(values).items())
