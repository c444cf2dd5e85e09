"""A scored separator's page, which needs nothing else: scores, what was left out, sounds and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cocktail.report.markdown import INTERVAL
from cocktail.report.page import Heading, Part, Picture, Table, Text, to_html
from cocktail.tasks.class_accuracy import ClassAccuracy
from cocktail.tasks.presence import PRESENCE_SCORES, PresenceScores
from cocktail.tasks.report import ABOUT_INTERVALS, Subject, facts_parts
from cocktail.tasks.separation.class_draws import ClassDraws
from cocktail.tasks.separation.examples import SeparatedExample, separated_examples
from cocktail.tasks.separation.fuss import HEADER, FussReport
from cocktail.tasks.separation.parsed import ParsedSet, parsed_table
from cocktail.tasks.separation.sight import sight_table
from cocktail.tasks.separation.tables import SystemSummary, system_table

ABOUT_SCORES = (
    "In dB; higher is better: means over a mixture's sources, then over mixtures. SDR, SIR and SAR are those of BSS "
    "Eval, SI-SDRi is SI-SDR less that of the mixture. The mixture as every estimate is what doing nothing is worth; "
    "the mean spectra of the true classes are fixed equalisers, and what a system has above both comes from listening. "
    f"Ideal masks know the answer. Small: the 95 % interval, by recording. {ABOUT_INTERVALS}"
)
_FIGURES = {
    "by_class_pair.png": ("By pair of classes", "SDR of the sources of a class in mixtures with another."),
    "source_vectors.png": ("Vectors by class", "What stands for each source, by t-SNE, a colour a class."),
    "learning.png": ("Learning curves", "Recognition of classes, and losses, by step."),
}


def score_parts(
    by_number: Mapping[int, Sequence[SystemSummary]],
    by_sight: Mapping[str, Sequence[SystemSummary]],
    fuss: Mapping[str, FussReport],
    draws: ClassDraws | None,
    notes: Sequence[str],
) -> list[Part]:
    """The tables of scores: by number of sources, of visible and invisible ones, by the FUSS rule, over draws."""
    parts: list[Part] = [Text(ABOUT_SCORES)]
    for number, summaries in by_number.items():
        if len(by_number) > 1:
            parts.append(Heading(f"Mixtures of {number} source{'s' if number > 1 else ''}", 3))
        parts.append(_scores_table(*system_table(summaries)))
    if by_sight:
        parts += [Heading("Sources that are seen, and sources that are only heard", 3), Table(*sight_table(by_sight))]
    for system, report in fuss.items():
        parts += [Heading(f"{system}, by the FUSS rule", 3), Table(HEADER, report.cells)]
    if draws is not None:
        parts += [Heading("Over draws of classes", 3), Text(draws.note), Table(*draws.table)]
    return parts + [Text(note) for note in notes]


def recognition_parts(
    presence: PresenceScores | None, sets: dict[str, ParsedSet], accuracy: ClassAccuracy | None
) -> list[Part]:
    """The tables of what the model says is there; nothing of a model that does not say it."""
    parts: list[Part] = []
    if sets:
        parts.append(Table(*parsed_table(sets), "Classes that are seen, heard, and heard but not seen, in [0, 1]"))
    elif presence is not None:
        caption = "Classes that the model takes to be there against those of the sources, in [0, 1]"
        parts.append(Table(["average", *PRESENCE_SCORES], presence.cells, caption))
    if accuracy is not None:
        parts += [Text(accuracy.note), Table(*accuracy.table)]
    return [Heading("What is there"), *parts] if parts else []


def separation_page(
    subject: Subject,
    tables: Sequence[Part],
    by_class: tuple[Sequence[str], Sequence[Sequence[str]]],
    examples: Sequence[Part],
    folder: Path,
) -> str:
    """The page of a model's tables, of its examples, and of the figures that lie in the folder."""
    parts: list[Part] = [*facts_parts(subject.facts), Heading("Scores"), *tables]
    parts += [Heading("Examples"), *examples] if examples else []
    parts += [Heading("By class"), Table(*by_class, f"{subject.name}: means over sources, in dB")]
    for name, (title, caption) in _FIGURES.items():
        if (folder / name).exists():
            parts += [Heading(title), Picture(name, (folder / name).read_bytes(), caption)]
    return to_html(f"Separation by {subject.name}", parts)


def store_examples(subject: Subject, folder: Path) -> list[Part]:
    """Write a subject's examples into a folder, and show what was written; nothing where there are none."""
    parts: list[Part] = []
    for example in () if subject.examples is None else separated_examples(subject, subject.examples):
        example.store(folder)
        parts += _shown(example, folder)
    return parts


def _shown(example: SeparatedExample, folder: Path) -> list[Part]:
    name, class_names = example.mixture_id, " and ".join(example.class_names)
    captions = {
        f"{name}.png": f"Spectrograms of mixture {name}: the mixture, the true sources, {', '.join(example.columns)}.",
        f"{name}-masks.png": f"Masks of mixture {name}: {', '.join(example.masks)}.",
    }
    pictures = [
        Picture(file, (folder / file).read_bytes(), caption)
        for file, caption in captions.items()
        if (folder / file).exists()
    ]
    return [Heading(f"Mixture {name}: {class_names}", 3), *pictures, example.players()]


def _scores_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The table with the interval below the score that it is of: the page is not as wide as a terminal."""
    at = header.index(INTERVAL)
    cells = [[*row[: at - 1], f"{row[at - 1]}\n{row[at]}", *row[at + 1 :]] for row in rows]
    return Table([*header[:at], *header[at + 1 :]], cells)
