"""Papers' tables of systems side by side, for the sweeps of `pipelines.sweeps.systems`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cocktail.studies.paper import Paper, PaperRow, PaperTable
from cocktail.studies.trial import SYSTEM

SOURCES = "mixing.num_sources"


def table_of_systems(
    name: str, title: str, scores: Mapping[str, tuple[float | None, ...]], num_sources: int | None = None
) -> PaperTable:
    """A table of scores by the titles of systems, the proposed one last, of mixtures of so many sources."""
    rows = tuple(
        PaperRow(label=system, model=system, settings={SYSTEM: system}, scores=own) for system, own in scores.items()
    )
    common = {} if num_sources is None else {SOURCES: str(num_sources)}
    return PaperTable(name=name, word=name, title=title, rows=rows, common=common)


def paper_of_systems(
    title: str,
    of: str,
    printed: tuple[str, ...],
    tables: Sequence[PaperTable],
    titles: Mapping[str, str] | None = None,
) -> Paper:
    """A paper's tables of systems; its own setting is the proposed one of the first."""
    first = tables[0]
    own = PaperTable(name=first.name, word="own", title=first.title, rows=first.rows[-1:], common=first.common)
    return Paper(title=title, of=of, printed=printed, titles=titles or {}, own=own, tables=tuple(tables))
