"""The report of a sweep: what was swept, scores beside the paper's, differences, curves, examples, and every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from cocktail.metrics.bootstrap import Interval
from cocktail.report.comparison import LoadTrained, ReadMixtures, is_control, load_model
from cocktail.report.page import Folded, Heading, Part, Picture, Table, Text, store_report
from cocktail.report.paper import PRINTED, SGN_PAPER, SGN_TABLE_I, SGN_TABLES, Column, PaperTable
from cocktail.report.sweep import FINISHED, Setting, Sweep, Trial, difference, own_system
from cocktail.report.sweep_examples import example_parts, first_seed
from cocktail.report.sweep_figures import (
    looks_figure,
    loss_figure,
    numeric_paths,
    path_figure,
    settings_figure,
    to_png,
)
from cocktail.report.tables import HEADERS, SCORES, Summary, by_class, format_cell, mixture_scores, summarise
from cocktail.types import UsageError

SHORT = (
    "model.width", "model.depth", "mixing.num_sources", "training.split", "training.epochs", "training.max_steps",
    "training.batch_size", "training.optimizer", "training.learning_rate", "evaluation.split",
)  # fmt: skip
"""Settings that say in short what kind of training it was."""
MADE_OF = {
    "data": "data",
    "manifest_hash": "manifest hash",
    "test_list_hash": "hash of the test list",
    "command": "command",
    "git_commit": "commit",
}
"""Tags of trials, or of the sweep itself, and what they are called."""
SHORT_HASH = 12


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


def report_sweep(
    folder: Path, sweep: Sweep, num_examples: int, load: LoadTrained, read: ReadMixtures, notes: Sequence[str] = ()
) -> None:
    """Write report.html, report.md and what the latter shows into a folder.

    `load` gives a checkpoint's model, `read` mixtures of a run's test list; where either cannot, the report says so.
    """
    parts: list[Part] = [*map(Text, notes), *summary_parts(sweep), *score_parts(sweep)]
    if sweep.reference is None:
        parts.append(Text("No trial has finished with scores: there is nothing to compare, and nothing to listen to."))
    else:
        parts += difference_parts(sweep, sweep.reference)
    parts += curve_parts(sweep)
    if sweep.reference is not None:
        parts += class_parts(sweep, load)
        if num_examples:
            parts += [
                Heading("Examples"),
                Text(
                    f"Best and worst are by the SDR of {sweep.reference.label}, the reference. Beside it stands the "
                    "setting that is furthest from it on that mixture, each by the first of its seeds."
                ),
                *example_parts(sweep.settings, sweep.reference, num_examples, load, read),
            ]
    parts += trial_parts(sweep)
    store_report(folder, f"Sweep {sweep.name}", parts)


def summary_parts(sweep: Sweep) -> list[Part]:
    """What was swept, of what, and what became of it."""
    became = Counter(kind_of(trial) for trial in sweep.trials)
    told = [f"{number} {kind}" for kind, number in became.items()]
    if sweep.num_planned is not None and sweep.num_planned > len(sweep.trials):
        told.append(f"{sweep.num_planned - len(sweep.trials)} of {sweep.num_planned} planned not begun")
    seeds = sorted({trial.seed for trial in sweep.trials if trial.seed}, key=lambda seed: (len(seed), seed))
    varied = {path for trial in sweep.trials for path in trial.changes} | {"seed"}
    common = _common_params(sweep.trials)
    short = ", ".join(
        f"{path} {common[path]}" for path in SHORT if path not in varied and common.get(path, "None") != "None"
    )
    grids = "; ".join(" x ".join(f"`{path}`" for path in grid) for grid in sweep.grids)
    rows = [
        ["swept", grids],
        ["settings", str(len(sweep.settings))],
        ["seeds", ", ".join(seeds)],
        ["trials", ", ".join(told)],
        ["base settings", short],
    ]
    for tag, name in MADE_OF.items():
        values = _tag_values(sweep, tag)
        rows.append([name, "\n".join(f"`{value}`" for value in values) if values else "not known"])
    rows.append(["MLflow run", f"`{sweep.run_id}`"])
    full = [[f"`{path}`", value] for path, value in sorted(common.items()) if path not in varied]
    return [
        Heading("What was swept"),
        Table(["what", "value"], rows),
        Folded("All settings that every trial shares", [Table(["setting", "value"], full)]),
    ]


def _tag_values(sweep: Sweep, tag: str) -> list[str]:
    """The sweep's own value; else the trials', each once."""
    own = [sweep.tags[tag]] if tag in sweep.tags else []
    return own or list(dict.fromkeys(trial.tags[tag] for trial in sweep.trials if tag in trial.tags))


def _common_params(trials: Sequence[Trial]) -> dict[str, str]:
    known = [trial.params for trial in trials if trial.params]
    first = known[0] if known else {}
    return {path: value for path, value in first.items() if all(params.get(path) == value for params in known)}


def kind_of(trial: Trial) -> str:
    """What became of a trial, in a word or two."""
    return trial.status.split(":")[0].split(" at step")[0].split(",")[0] if trial.status != FINISHED else FINISHED


def layouts(sweep: Sweep) -> list[Layout]:
    """The main tables: one for each of the paper's that a grid belongs to, and one for each other grid."""
    found: dict[str, Layout] = {}
    for grid in sweep.grids or [[]]:
        own = [setting for setting in sweep.settings if setting.changes.keys() <= set(grid)]
        paper = next((table for table in _papers(grid) if _matched(table, sweep.settings)), None)
        if paper is None:
            paths = [path for path in grid if path != "seed"]
            title = " x ".join(paths) or "seeds"
            columns = [Column(header=path.rpartition(".")[-1], path=path) for path in paths]
            found[title] = Layout(title=title, columns=columns, settings=own)
        else:
            before = found[paper.title].settings if paper.title in found else []
            matched = [setting for setting in sweep.settings if setting in _matched(paper, sweep.settings)]
            chosen = [setting for setting in sweep.settings if setting in [*before, *matched, *own]]
            ordered = sorted(chosen, key=partial(_paper_place, paper))
            found[paper.title] = Layout(title=paper.title, columns=paper.columns, settings=ordered, paper=paper)
    shown = [setting for layout in found.values() for setting in layout.settings]
    if left := [setting for setting in sweep.settings if setting not in shown]:
        found["others"] = Layout(title="other settings", columns=[], settings=left)
    return list(found.values())


def _papers(grid: Sequence[str]) -> list[PaperTable]:
    """The paper's tables that vary all that a grid varies; of none, the paper's own setting."""
    paths = set(grid) - {"seed"}
    tables = [table for table in SGN_TABLES if paths <= {column.path for column in table.columns}]
    return tables if paths else [SGN_TABLE_I]


def _matched(table: PaperTable, settings: Sequence[Setting]) -> list[Setting]:
    return [setting for setting in settings if table.row_of(setting.changes, setting.params) is not None]


def _paper_place(table: PaperTable, setting: Setting) -> int:
    row = table.row_of(setting.changes, setting.params)
    return len(table.rows) if row is None else row


def score_parts(sweep: Sweep) -> list[Part]:
    """The main tables with controls, and figures of SDR."""
    parts: list[Part] = [
        Heading("Scores"),
        Text(
            "Means over a mixture's sources, then over mixtures, then over seeds, in dB; higher is better. Below each: "
            "± the standard deviation over seeds where there are several, and the 95 % bootstrap interval over test "
            "mixtures for these seeds. Only finished trials count. Excluded mixtures have a silent reference."
        ),
    ]
    controls = [] if sweep.reference is None else control_summaries(sweep.reference)
    all_layouts = layouts(sweep)
    if any(layout.paper for layout in all_layouts):
        parts.append(
            Text(
                f"Columns headed paper are printed in {SGN_PAPER}: of mixtures of two sources of MUSIC, the paper's "
                "network and training. Data and scale of this sweep may be others: compare the order of settings, not "
                "values."
            )
        )
    for number, layout in enumerate(all_layouts):
        parts.append(Heading(layout.title, 3))
        parts.append(main_table(layout, controls))
        printed = {setting.label: found["sdr"] for setting in layout.settings if (found := layout.printed(setting))}
        lines = {summary.system: summary.means["sdr"] for summary in controls if summary.system == "mixture"}
        if any(setting.summaries for setting in layout.settings):
            figure = settings_figure(layout.settings, lines, printed)
            parts.append(
                Picture(
                    f"sdr-{number}.png",
                    to_png(figure),
                    "SDR in dB by setting: mean over seeds, 95 % interval over mixtures, and a dot for each seed.",
                )
            )
        for path in numeric_paths(layout.settings, [column.path for column in layout.columns]):
            parts.append(
                Picture(
                    f"sdr-{number}-{path}.png",
                    to_png(path_figure(layout.settings, path, printed)),
                    f"SDR in dB over {path}: means with 95 % intervals over mixtures, and a dot for each seed.",
                )
            )
    if len({value for trial in sweep.trials if (value := trial.tags.get("test_list_hash"))}) > 1:
        parts.append(
            Text("Trials were tested on different test lists: scores of one are not those of another's mixtures.")
        )
    return parts + reading_parts(sweep)


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


def reading_parts(sweep: Sweep) -> list[Part]:
    """Mean SDR of what the same weights say if they are read otherwise (soft masks, predicted classes)."""
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
        return []
    rows = [
        [setting.label, score_mean(setting), *(format_cell(means[setting.label].get(reading)) for reading in readings)]
        for setting in sweep.settings
        if setting.summaries
    ]
    caption = "Mean SDR in dB of the same weights, read otherwise"
    return [Heading("Other readings of the same weights", 3), Table(["setting", "as above", *readings], rows, caption)]


def score_mean(setting: Setting) -> str:
    return format_cell(setting.summaries["sdr"].mean)


def difference_parts(sweep: Sweep, reference: Setting) -> list[Part]:
    """Each setting less the reference."""
    rows = []
    for setting in sweep.settings:
        if setting is reference:
            continue
        found = difference(setting, reference)
        if found.problem:
            rows.append([f"{setting.label}\n{found.problem}", *("" for _ in SCORES), str(len(found.seeds)), "", ""])
            continue
        cells = []
        for score in SCORES:
            interval = found.intervals.get(score)
            cells.append("" if interval is None else "\n".join([f"{interval.mean:+.2f}", *format_bounds(interval)]))
        counts = [str(len(found.seeds)), str(found.num_mixtures), f"{found.share_better:.0%}"]
        rows.append([setting.label, *cells, *counts])
    papers = SGN_TABLE_I.row_of(reference.changes, reference.params) is not None
    which = "the paper's own setting" if papers else "the first that has scores"
    parts: list[Part] = [
        Heading("Paired differences"),
        Text(
            f"Each setting less the reference, {reference.label} ({which}), in dB, on the test mixtures that both have "
            "scores of and under the training seeds that both have finished. 95 % percentile bootstrap: with one seed "
            "mixtures are drawn again; with several, mixtures and seeds, independently of each other. One seed says "
            "nothing of other seeds, and two or three say little: of the variance that seeds cause, S of them show "
            "(S - 1) / S, so intervals of few seeds are too narrow. Each interval is of one comparison, not corrected "
            "for their number."
        ),
    ]
    if not rows:
        return [*parts, Text("There is no other setting.")]
    header = ["setting", *(HEADERS[score] for score in SCORES), "seeds", "mixtures", "above in SDR"]
    return [*parts, Table(header, rows)]


def curve_parts(sweep: Sweep) -> list[Part]:
    """Losses and looks of all trials, those that did not finish among them."""
    parts: list[Part] = [Heading("Learning curves")]
    metrics = dict.fromkeys(m for trial in sweep.trials for m in trial.histories if m.startswith("loss/"))
    for metric in sorted(metrics, key=lambda name: (name != "loss/total", name)):
        png = to_png(loss_figure(sweep.settings, metric))
        name = f"{metric.replace('/', '-')}.png"
        parts.append(Picture(name, png, f"Training loss `{metric}` by step, of every trial; a colour a setting."))
    if (figure := looks_figure(sweep.settings)) is not None:
        caption = "How well the classes of held-out test mixtures were recognised on the way (0 to 1), of every trial."
        parts.append(Picture("looks.png", to_png(figure, 100), caption))
    return parts if len(parts) > 1 else [*parts, Text("No trial has logged a loss.")]


def class_parts(sweep: Sweep, load: LoadTrained) -> list[Part]:
    """Scores by class of the setting of the highest mean SDR."""
    best = max((s for s in sweep.settings if s.summaries), key=lambda setting: setting.summaries["sdr"].mean)
    runs = [trial.run for trial in best.seeds.values() if trial.run is not None]
    parts: list[Part] = [Heading(f"By class: {best.label}")]
    try:
        classes: Sequence[str] = load_model(runs[0], load).classes
    except UsageError as error:
        classes = ()
        parts.append(Text(f"Classes have numbers for names: {error}."))
    table = by_class(pa.concat_tables([run.results for run in runs]), own_system(runs[0]), classes)
    header = [str(HEADERS.get(name, name)) for name in table.column_names]
    rows = [[format_cell(value) for value in row.values()] for row in table.to_pylist()]
    seeds = f", over {len(runs)} seeds, each of which counts a source once" if len(runs) > 1 else ""
    return [*parts, Table(header, rows, f"The setting of the highest mean SDR; means over sources{seeds}, in dB")]


def trial_parts(sweep: Sweep) -> list[Part]:
    """Every trial, and what became of it."""
    superseded = {
        trial.run_id
        for setting in sweep.settings
        for trial in setting.trials
        if trial.counts and setting.seeds[trial.seed] is not trial
    }
    rows = [
        [
            setting.label,
            trial.seed,
            trial.status
            + (", but another run of this seed was started later, and counts" * (trial.run_id in superseded)),
            format_cell(trial.seconds_per_step),
            "" if trial.seconds is None else f"{trial.seconds / 60:.1f}",
            f"{trial.name}\n`{trial.run_id}`",
            f"`{trial.tags['checkpoint']}`" if "checkpoint" in trial.tags else "none",
        ]
        for setting in sweep.settings
        for trial in setting.trials
    ]
    header = ["setting", "seed", "status", "s per step", "minutes", "MLflow run", "checkpoint"]
    return [Heading("Trials"), Table(header, rows, "Seconds per step are medians; minutes are from start to end")]
