"""A sweep's tables: settings in the paper's layout beside its numbers, other readings, differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from cocktail.metrics.bootstrap import Interval
from cocktail.report.page import Table
from cocktail.report.paper import PRINTED, SGN_TABLE_I, SGN_TABLES, Column, PaperTable
from cocktail.report.scores import is_control
from cocktail.report.sweep import SEED, Setting, Sweep, difference, own_system
from cocktail.report.sweep_examples import first_seed
from cocktail.report.tables import HEADERS, SCORES, Summary, format_cell, mixture_scores, summarise


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A main table: its settings in order, and the paper's line beside each, if there is one."""

    title: str
    columns: Sequence[Column]
    settings: Sequence[Setting]
    paper: PaperTable | None = None

    def printed(self, setting: Setting) -> Mapping[str, float] | None:
        """The paper's scores of a setting, in dB."""
        row = None if self.paper is None else self.paper.row_of(setting.changes, setting.params)
        return (
            None if self.paper is None or row is None else dict(zip(PRINTED, self.paper.rows[row].scores, strict=True))
        )


def layouts(sweep: Sweep) -> list[Layout]:
    """The main tables: one for each of the paper's that a grid belongs to, and one for each other grid."""
    found: dict[str, Layout] = {}
    for grid in sweep.grids or [[]]:
        own = [setting for setting in sweep.settings if setting.changes.keys() <= set(grid)]
        paper = next((table for table in _papers(grid) if _matched(table, sweep.settings, own)), None)
        if paper is None:
            paths = [path for path in grid if path != SEED]
            title = " x ".join(paths) or "seeds"
            columns = [Column(header=path.rpartition(".")[-1], path=path) for path in paths]
            found[title] = Layout(title=title, columns=columns, settings=own)
        else:
            before = found[paper.title].settings if paper.title in found else []
            matched = _matched(paper, sweep.settings, own)
            chosen = [setting for setting in sweep.settings if setting in [*before, *matched, *own]]
            ordered = sorted(chosen, key=partial(_paper_place, paper))
            found[paper.title] = Layout(title=paper.title, columns=paper.columns, settings=ordered, paper=paper)
    shown = [setting for layout in found.values() for setting in layout.settings]
    if left := [setting for setting in sweep.settings if setting not in shown]:
        found["others"] = Layout(title="other settings", columns=[], settings=left)
    return list(found.values())


def _papers(grid: Sequence[str]) -> list[PaperTable]:
    """The paper's tables that vary all that a grid varies; of none, the paper's own setting."""
    paths = set(grid) - {SEED}
    tables = [table for table in SGN_TABLES if paths <= {column.path for column in table.columns}]
    return tables if paths else [SGN_TABLE_I]


def _matched(table: PaperTable, settings: Sequence[Setting], own: Sequence[Setting]) -> list[Setting]:
    """Those that stand beside a line of the table: of what it holds, as a depth, they have what the grid's own have."""

    def held(setting: Setting) -> list[str]:
        return [str(setting.value(path)) for path in table.held]

    of_own = [held(setting) for setting in own]
    return [
        setting
        for setting in settings
        if held(setting) in of_own and table.row_of(setting.changes, setting.params) is not None
    ]


def _paper_place(table: PaperTable, setting: Setting) -> int:
    row = table.row_of(setting.changes, setting.params)
    return len(table.rows) if row is None else row


def control_summaries(reference: Setting) -> list[Summary]:
    """The controls among the results of the reference's first seed, lowest SDR first."""
    run = first_seed(reference).run
    assert run is not None
    return [summary for summary in summarise(run.results) if is_control(summary.system)]


def main_table(layout: Layout, controls: Sequence[Summary]) -> Table:
    """A line a setting, then the controls."""
    header = ["setting", *(column.header for column in layout.columns)]
    for score in SCORES:
        header.append(HEADERS[score])
        if layout.paper is not None and score in PRINTED:
            header.append(f"paper {HEADERS[score]}")
    rows = []
    for setting in layout.settings:
        printed = layout.printed(setting)
        row = [name_cell(setting), *(column.cell(setting.value(column.path)) for column in layout.columns)]
        for score in SCORES:
            row.append(score_cell(setting, score))
            if layout.paper is not None and score in PRINTED:
                row.append("" if printed is None else format_cell(printed[score]))
        rows.append([*row, *_counts(setting)])
    for summary in controls:
        row = [summary.system, *("" for _ in layout.columns)]
        for score in SCORES:
            mean, interval = format_cell(summary.means[score]), summary.sdr_interval
            row.append(
                mean if score != "sdr" or interval is None else f"{mean}\n({interval[0]:.2f} to {interval[1]:.2f})"
            )
            if layout.paper is not None and score in PRINTED:
                row.append("")
        rows.append([*row, "", str(summary.num_mixtures), str(summary.num_excluded)])
    header += ["seeds", "mixtures", "excluded"]
    return Table(header, rows, faint=[name for name in header if name.startswith("paper ")])


def score_cell(setting: Setting, score: str) -> str:
    """The mean, and in lines of their own its spread over seeds and its interval over mixtures."""
    summary = setting.summaries.get(score)
    if summary is None:
        return ""
    spread = [] if summary.spread is None else [f"± {summary.spread:.2f}"]
    return "\n".join([format_cell(summary.mean), *spread, *format_bounds(summary.interval)])


def format_bounds(interval: Interval | None) -> list[str]:
    return [] if interval is None else [f"({interval.low:.2f} to {interval.high:.2f})"]


def name_cell(setting: Setting) -> str:
    """The label, and below what became of the seeds that do not count, in short."""
    missing = [
        f"{trial.seed and f'seed {trial.seed}: '}{trial.status.split(':')[0]}"
        for trial in setting.trials
        if not trial.counts
    ]
    return "\n".join([setting.label, *missing])


def _counts(setting: Setting) -> list[str]:
    """Seeds that count, of those that there are; mixtures; excluded ones."""
    seeds = f"{len(setting.seeds)} of {len({trial.seed for trial in setting.trials})}"
    if not setting.summaries:
        return [seeds, "", ""]
    excluded = max(trial.num_mixtures - len(trial.scores["sdr"]) for trial in setting.seeds.values())
    return [seeds, str(setting.summaries["sdr"].num_mixtures), str(excluded)]


def reading_table(sweep: Sweep) -> Table | None:
    """Mean SDR of the same weights read otherwise (soft masks, predicted classes); None if they never were."""
    means: dict[str, dict[str, float]] = {}
    for setting in sweep.settings:
        found: dict[str, list[float]] = {}
        for trial in setting.seeds.values():
            assert trial.run is not None
            own = own_system(trial.run)
            for system in trial.run.results["system"].unique().to_pylist():
                if system.startswith(f"{own}, "):
                    sdr = mixture_scores(trial.run.results, system)["sdr"].drop_null().to_numpy()
                    found.setdefault(system.removeprefix(f"{own}, "), []).append(float(np.mean(sdr)))
        means[setting.label] = {reading: float(np.mean(values)) for reading, values in found.items()}
    readings = list(dict.fromkeys(reading for found in means.values() for reading in found))
    if not readings:
        return None
    rows = [
        [
            setting.label,
            format_cell(setting.summaries["sdr"].mean),
            *(format_cell(means[setting.label].get(reading)) for reading in readings),
        ]
        for setting in sweep.settings
        if setting.summaries
    ]
    caption = "Mean SDR in dB of the same weights, read otherwise"
    return Table(["setting", "as above", *readings], rows, caption)


def difference_table(sweep: Sweep, reference: Setting) -> Table:
    """A line for each setting but the reference: how far it is from it, in dB."""
    rows = []
    for setting in sweep.settings:
        if setting is reference:
            continue
        found = difference(setting, reference)
        name = "\n".join([setting.label, *_beside_its_grid(setting, reference)])
        if found.problem:
            rows.append([f"{name}\n{found.problem}", *("" for _ in SCORES), str(len(found.seeds)), "", ""])
            continue
        cells = []
        for score in SCORES:
            interval = found.intervals.get(score)
            cells.append("" if interval is None else "\n".join([f"{interval.mean:+.2f}", *format_bounds(interval)]))
        counts = [str(len(found.seeds)), str(found.num_mixtures), f"{found.share_better:.0%}"]
        rows.append([name, *cells, *counts])
    return Table(["setting", *(HEADERS[score] for score in SCORES), "seeds", "mixtures", "above in SDR"], rows)


def _beside_its_grid(setting: Setting, reference: Setting) -> list[str]:
    """What a setting leaves alone, but the reference, of another grid, changes: the difference is of that, too."""
    left = [path for path in reference.changes if path not in setting.changes and setting.value(path) != ""]
    return [
        f"{path} {setting.value(path)}, not {reference.value(path)}"
        for path in left
        if str(setting.value(path)) != str(reference.value(path))
    ]
