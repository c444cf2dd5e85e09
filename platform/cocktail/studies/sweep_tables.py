"""A sweep's tables: settings in the paper's layout beside its numbers, other readings, differences."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from cocktail.metrics.intervals import Recordings
from cocktail.report.markdown import format_count
from cocktail.report.page import Table
from cocktail.studies.paper import Column, Paper, PaperTable
from cocktail.studies.sweep import Setting, Summary, Sweep, difference, first_seed
from cocktail.studies.trial import SEED, SYSTEM
from cocktail.tasks.rows import CONTROL, readings_of, systems_of
from cocktail.tasks.scores import Score, Scoreboard, ScoreGroup


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A main table: its settings in order, and the paper's line beside each, if there is one."""

    title: str
    columns: Sequence[Column]
    settings: Sequence[Setting]
    paper: Paper | None = None
    table: PaperTable | None = None
    """The paper's table that this one is laid out as."""

    def printed(self, setting: Setting) -> Mapping[str, float]:
        """The paper's scores of a setting by name, in their unit; nothing if it has none."""
        row = None if self.table is None else self.table.row_of(setting.changes, setting.params)
        if self.paper is None or self.table is None or row is None:
            return {}
        scores = zip(self.paper.printed, self.table.rows[row].scores, strict=True)
        return {name: score for name, score in scores if score is not None}

    def prints(self, score: Score) -> bool:
        """Whether the paper has the score."""
        return self.paper is not None and score.name in self.paper.printed

    def headers(self, score: Score) -> list[str]:
        """Headers of the columns of a score: ours, and the paper's with its own threshold, if it has the score."""
        if self.paper is None or not self.prints(score):
            return [score.title]
        return [score.title, f"paper {self.paper.titles.get(score.name, score.title)}"]


def layouts(sweep: Sweep) -> list[Layout]:
    """The main tables: one for each of the paper's that a grid belongs to, and one for each other grid."""
    by_title: dict[str, Layout] = {}
    for grid in sweep.grids or [[]]:
        own = [setting for setting in sweep.settings if setting.changes.keys() <= set(grid)]
        tables = _tables(sweep.paper, grid)
        table = next((table for table in tables if _matched(table, sweep.settings, own)), None)
        if table is None:
            paths = [path for path in grid if path not in (SEED, SYSTEM)]
            title = " x ".join(paths) or ("systems" if SYSTEM in grid else "seeds")
            columns = [Column(header=path.rpartition(".")[-1], path=path) for path in paths]
            by_title[title] = Layout(title=title, columns=columns, settings=own)
        else:
            before = by_title[table.title].settings if table.title in by_title else []
            matched = _matched(table, sweep.settings, own)
            chosen = [setting for setting in sweep.settings if setting in [*before, *matched, *own]]
            ordered = sorted(chosen, key=partial(_paper_place, table))
            by_title[table.title] = Layout(
                title=table.title, columns=table.columns, settings=ordered, paper=sweep.paper, table=table
            )
    placed = [setting for layout in by_title.values() for setting in layout.settings]
    if left := [setting for setting in sweep.settings if setting not in placed]:
        by_title["others"] = Layout(title="other settings", columns=[], settings=left)
    return list(by_title.values())


def _tables(paper: Paper | None, grid: Sequence[str]) -> list[PaperTable]:
    """The paper's tables that vary all that a grid varies; of none, the paper's own setting."""
    if paper is None:
        return []
    paths = set(grid) - {SEED}
    tables = [table for table in paper.tables if paths <= table.varied]
    return tables if paths else [paper.own]


def _matched(table: PaperTable, settings: Sequence[Setting], own: Sequence[Setting]) -> list[Setting]:
    """Settings beside a line of the table: of what it holds, as a depth, they have what the grid's own have."""

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


@dataclass(frozen=True, kw_only=True)
class Control:
    """What a system that is no model has for scores."""

    system: str
    summaries: Mapping[str, Summary]
    """Summaries by score, without scores that no mixture has."""
    num_mixtures: Mapping[str, int]
    """Mixtures in the results, by the headline of their group."""


def controls_of(reference: Setting, board: Scoreboard) -> list[Control]:
    """The controls among the results of the reference's first seed."""
    run = first_seed(reference).run
    assert run is not None
    return [_control(run.results, system, board) for system in systems_of(run.results, CONTROL)]


def _control(results: pa.Table, system: str, board: Scoreboard) -> Control:
    mixtures = board.mixtures(results, system)
    summaries = {}
    for score in (score for group in board.groups for score in group.scores):
        known = mixtures.filter(mixtures[score.name].is_valid())
        if len(known):
            recordings = Recordings(known["recordings"].to_pylist())
            values = known[score.name].to_numpy()[None]
            summaries[score.name] = Summary.of(values, recordings, score.mean_interval(values, recordings))
    num_mixtures = {group.headline.name: group.num_mixtures(mixtures) for group in board.groups}
    return Control(system=system, summaries=summaries, num_mixtures=num_mixtures)


def main_table(layout: Layout, group: ScoreGroup | None, controls: Sequence[Control]) -> Table:
    """A line a setting, then the controls, lowest headline first; without a group, as nothing has scores, neither."""
    header = ["setting", *(column.header for column in layout.columns)]
    scores = () if group is None else group.scores
    for score in scores:
        header += layout.headers(score)
    rows = []
    for setting in layout.settings:
        printed = layout.printed(setting)
        row = [name_cell(setting), *(column.cell(setting.value(column.path)) for column in layout.columns)]
        for score in scores:
            row.append(score_cell(score, setting.summaries.get(score.name)))
            row += [score.cell(printed.get(score.name))] if layout.prints(score) else []
        rows.append([*row, *_counts(setting, group)])
    rows += [] if group is None else _control_rows(layout, group, controls)
    header += ["seeds", "mixtures", "recordings", "excluded"]
    caption = "" if group is None else group.title.capitalize()
    return Table(header, rows, caption, faint=[name for name in header if name.startswith("paper ")])


def _control_rows(layout: Layout, group: ScoreGroup, controls: Sequence[Control]) -> list[list[str]]:
    rows = []
    headline = group.headline
    known = [control for control in controls if headline.name in control.summaries]
    for control in sorted(known, key=lambda control: control.summaries[headline.name].mean):
        row = [control.system, *("" for _ in layout.columns)]
        for score in group.scores:
            summary = control.summaries.get(score.name)
            bounds = format_bounds(score, summary) if summary is not None and score == headline else []
            row.append("\n".join([score.cell(None if summary is None else summary.mean), *bounds]))
            row += [""] if layout.prints(score) else []
        summary = control.summaries[headline.name]
        excluded = control.num_mixtures[headline.name] - summary.num_mixtures
        rows.append([*row, "", str(summary.num_mixtures), format_count(summary.num_recordings), str(excluded)])
    return rows


def score_cell(score: Score, summary: Summary | None) -> str:
    """The mean, and in lines of their own its spread over seeds and its interval."""
    if summary is None:
        return ""
    spread = [] if summary.spread is None else [f"± {score.cell(summary.spread)}"]
    return "\n".join([score.cell(summary.mean), *spread, *format_bounds(score, summary)])


def format_bounds(score: Score, summary: Summary) -> list[str]:
    """The interval, or why there is none, in a line."""
    interval = summary.interval
    return [f"({summary.why_no_interval if interval is None else score.interval(interval.low, interval.high)})"]


def name_cell(setting: Setting) -> str:
    """The label, and below what became of the seeds that do not count, in short."""
    missing = [
        f"{trial.seed and f'seed {trial.seed}: '}{trial.status.split(':')[0]}"
        for trial in setting.trials
        if not trial.counts
    ]
    return "\n".join([setting.label, *missing])


def _counts(setting: Setting, group: ScoreGroup | None) -> list[str]:
    """Seeds that count, of those that there are; mixtures; their recordings; excluded mixtures."""
    there = len({trial.seed for trial in setting.trials})
    seeds = "one seed" if len(setting.seeds) == there == 1 else f"{len(setting.seeds)} of {there}"
    if group is None or group.headline.name not in setting.summaries:
        return [seeds, "", "", ""]
    headline = group.headline.name
    excluded = max(trial.num_mixtures[headline] - len(trial.scores[headline]) for trial in setting.seeds.values())
    summary = setting.summaries[headline]
    return [seeds, str(summary.num_mixtures), format_count(summary.num_recordings), str(excluded)]


def in_words(seeds: Collection[str]) -> str:
    """How many seeds: one in words, as nothing is then known of others."""
    return "one seed" if len(seeds) == 1 else str(len(seeds))


def reading_table(sweep: Sweep, score: Score) -> Table | None:
    """Means of a score of the same weights read otherwise (soft masks, predicted classes); None if they never were."""
    means = {setting.label: _means_by_reading(setting, score) for setting in sweep.settings}
    readings = list(dict.fromkeys(reading for of_setting in means.values() for reading in of_setting))
    if not readings:
        return None
    rows = [
        [
            setting.label,
            score.cell(setting.summaries[score.name].mean),
            *(score.cell(means[setting.label].get(reading)) for reading in readings),
        ]
        for setting in sweep.settings
        if score.name in setting.summaries
    ]
    caption = f"Mean {score.label} in {score.unit} of the same weights, read otherwise"
    return Table(["setting", "as above", *readings], rows, caption)


def _means_by_reading(setting: Setting, score: Score) -> dict[str, float]:
    """Means of a score over the seeds that have it, by the name of the reading."""
    means: dict[str, list[float]] = {}
    for trial in setting.seeds.values():
        assert trial.run is not None
        for system, reading in readings_of(trial.run.results).items():
            mixtures = trial.run.board.mixtures(trial.run.results, system)
            if score.name in mixtures.column_names:
                means.setdefault(reading, []).extend(_mean(mixtures[score.name]))
    return {reading: float(np.mean(values)) for reading, values in means.items() if values}


def _mean(values: pa.ChunkedArray) -> list[float]:
    """The mean of what is there; nothing if nothing is."""
    there = values.drop_null().to_numpy()
    return [float(there.mean())] if len(there) else []


def difference_table(sweep: Sweep, reference: Setting, group: ScoreGroup) -> Table:
    """A line for each setting but the reference: how far it is from it in the scores of a group."""
    rows = []
    for setting in sweep.settings:
        if setting is reference:
            continue
        apart = difference(setting, reference, group)
        name = "\n".join([setting.label, *_beside_its_grid(setting, reference)])
        if apart.problem:
            rows.append([f"{name}\n{apart.problem}", *("" for _ in group.scores), in_words(apart.seeds), "", "", ""])
            continue
        cells = []
        for score in group.scores:
            summary = apart.summaries.get(score.name)
            lines = [] if summary is None else [score.signed(summary.mean), *format_bounds(score, summary)]
            cells.append("\n".join(lines))
        headline = apart.summaries.get(group.headline.name)
        counts = ["", "", ""]
        if headline is not None:
            recordings = format_count(headline.num_recordings)
            counts = [str(headline.num_mixtures), recordings, f"{apart.share_better:.0%}"]
        rows.append([name, *cells, in_words(apart.seeds), *counts])
    header = ["setting", *(score.title for score in group.scores), "seeds", "mixtures", "recordings"]
    return Table([*header, f"above in {group.headline.title}"], rows, group.title.capitalize())


def _beside_its_grid(setting: Setting, reference: Setting) -> list[str]:
    """What a setting leaves alone, but the reference, of another grid, changes: the difference is of that, too."""
    left = [path for path in reference.changes if path not in setting.changes and setting.value(path) != ""]
    return [
        f"{path} {setting.value(path)}, not {reference.value(path)}"
        for path in left
        if str(setting.value(path)) != str(reference.value(path))
    ]
