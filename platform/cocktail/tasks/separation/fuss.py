"""The table of the FUSS rule: SI-SDR by number of sources, and how often too few or too many came out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cocktail.metrics.intervals import Interval, Recordings, ratio_values
from cocktail.report.markdown import INTERVAL, format_count, format_decimals, format_interval, markdown_table

COLUMNS = (
    "mixture_id",
    "num_sources",
    "fuss_si_sdr",
    "fuss_si_sdri",
    "fuss_active_pair",
    "fuss_active_references",
    "fuss_active_estimates",
)
HEADER = (
    *("sources", "score", "dB", INTERVAL, "pairs", "references", "mixtures", "recordings"),
    *("fewer", "equal", "more"),
)


@dataclass(frozen=True, kw_only=True)
class FussGroup:
    """The mixtures of one number, or of several numbers, of active references."""

    sources: str
    """Number of sources of these mixtures: "1", "2", "2-4" or "all"."""
    score: str
    """What `mean_db` is of: "SI-SDR", "SI-SDRi", or nothing."""
    mean_db: float | None
    """Mean over active pairs, each counting once; higher is better. None where there is none."""
    interval: Interval | None
    """95 % interval of `mean_db`, by recording; None where `why_no_interval` says so."""
    why_no_interval: str
    num_pairs: int
    """Active pairs."""
    num_references: int
    """Active references. Those of no active pair were missed, and are not in the mean."""
    num_mixtures: int
    num_recordings: int | None
    """Recordings that these are made of; None if that is not known."""
    fewer: float | None
    """The share of the mixtures with fewer active estimates than active references; None where there are none."""
    equal: float | None
    more: float | None


@dataclass(frozen=True, kw_only=True)
class FussReport:
    """One system's scores by the FUSS rule."""

    groups: tuple[FussGroup, ...]
    """1, 2, 3, 4 and more sources, 2-4 pooled, and all."""
    num_without_reference: int
    """Mixtures without an active reference, which are in no group."""

    def markdown(self) -> str:
        """A line a group; scores in dB, shares of mixtures in percent."""
        return markdown_table(HEADER, self.cells)

    @property
    def cells(self) -> list[list[str]]:
        """The rows of a table with HEADER."""
        return [_cells(group) for group in self.groups]


def fuss_report(results: pa.Table, system: str) -> FussReport | None:
    """One system's report, of a table of results; None if it was not scored by the rule.

    Mixtures are grouped by active references, as in FUSS's own evaluation. Raises ValueError if some of the rows lack
    such scores, or a mixture has more or fewer rows than sources.
    """
    of_system = results.filter(pc.field("system") == system)
    rows = of_system.select(COLUMNS)
    nulls = {name: rows[name].null_count for name in COLUMNS}
    if nulls["fuss_si_sdr"] == len(rows):
        return None
    for name, num_nulls in nulls.items():
        if num_nulls:
            raise ValueError(f"{num_nulls} of {len(rows)} rows of {system} have no {name}: score them again")
    column = {name: rows[name].to_numpy() for name in COLUMNS[1:]}
    names = rows["mixture_id"].to_numpy().astype(str)
    _, first, place, count = np.unique(names, return_index=True, return_inverse=True, return_counts=True)
    wrong = np.flatnonzero(count != column["num_sources"][first])
    if len(wrong):
        index = first[wrong[0]]
        raise ValueError(
            f"mixture {rows['mixture_id'][index]} has {column['num_sources'][index]} sources, but {count[wrong[0]]} "
            f"rows of {system}: give each mixture once, with a row a source"
        )
    of_pairs = column["fuss_active_references"]
    references, estimates = of_pairs[first], column["fuss_active_estimates"][first]
    scores = {"SI-SDR": column["fuss_si_sdr"], "SI-SDRi": column["fuss_si_sdri"]}
    recordings: list[list[str | None]] = [[] for _ in first]
    for mixture, recording in zip(place, of_system["recording"].to_pylist(), strict=True):
        recordings[mixture].append(recording)

    def group(sources: str, score: str, low: int, high: int) -> FussGroup:
        pairs = column["fuss_active_pair"] & (low <= of_pairs) & (of_pairs <= high)
        there = (low <= references) & (references <= high)
        surplus = estimates[there] - references[there]
        of_group = Recordings([recordings[mixture] for mixture in np.flatnonzero(there)])
        mean = interval = None
        if score and pairs.any():
            mean = float(scores[score][pairs].mean())
            sums, counts = (np.bincount(place[pairs], each, len(first)) for each in (scores[score][pairs], None))
            interval = of_group.interval(ratio_values(sums[there], counts[there]))
        return FussGroup(
            sources=sources,
            score=score,
            mean_db=mean,
            interval=interval,
            why_no_interval=of_group.why_none,
            num_pairs=int(pairs.sum()),
            num_references=int(references[there].sum()),
            num_mixtures=int(there.sum()),
            num_recordings=of_group.number,
            fewer=float((surplus < 0).mean()) if there.any() else None,
            equal=float((surplus == 0).mean()) if there.any() else None,
            more=float((surplus > 0).mean()) if there.any() else None,
        )

    most = int(references.max(initial=4))
    groups = [group("1", "SI-SDR", 1, 1), *(group(str(n), "SI-SDRi", n, n) for n in range(2, most + 1))]
    groups += [group("2-4", "SI-SDRi", 2, 4), group("all", "", 1, most)]
    return FussReport(groups=tuple(groups), num_without_reference=int((references == 0).sum()))


def _cells(group: FussGroup) -> list[str]:
    shares = (group.fewer, group.equal, group.more)
    return [
        group.sources,
        group.score,
        "" if group.mean_db is None else format_decimals(group.mean_db),
        "" if group.mean_db is None else format_interval(group.interval, group.why_no_interval),
        str(group.num_pairs),
        str(group.num_references),
        str(group.num_mixtures),
        format_count(group.num_recordings),
        *("" if share is None else f"{share:.1%}" for share in shares),
    ]
