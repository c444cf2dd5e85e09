"""The report of a sweep: what was swept, scores beside the paper's, differences, curves, examples, and every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from cocktail.report.page import Folded, Heading, Part, Picture, Table, Text, store_report
from cocktail.report.paper import SGN_PAPER, SGN_TABLE_I
from cocktail.report.scored_run import LoadTrained, ReadMixtures, load_model
from cocktail.report.sweep import FINISHED, Setting, Sweep, Trial, own_system
from cocktail.report.sweep_examples import example_parts
from cocktail.report.sweep_figures import (
    looks_figure,
    loss_figure,
    numeric_paths,
    path_figure,
    settings_figure,
    to_png,
)
from cocktail.report.sweep_tables import control_summaries, difference_table, layouts, main_table, reading_table
from cocktail.report.tables import HEADERS, by_class, format_cell
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
    "code_hash": "hash of the code",
}
"""Tags of trials, or of the sweep itself, and what they are called."""


def report_sweep(folder: Path, sweep: Sweep, num_examples: int, load: LoadTrained, read: ReadMixtures) -> None:
    """Write report.html, report.md and what the latter shows into a folder.

    `load` gives a checkpoint's model, `read` mixtures of a run's test list; where either cannot, the report says so.
    """
    parts: list[Part] = [*summary_parts(sweep), *score_parts(sweep)]
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
    if (readings := reading_table(sweep)) is not None:
        parts += [Heading("Other readings of the same weights", 3), readings]
    return parts


def difference_parts(sweep: Sweep, reference: Setting) -> list[Part]:
    """Each setting less the reference."""
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
    table = difference_table(sweep, reference)
    return [*parts, table if table.rows else Text("There is no other setting.")]


def curve_parts(sweep: Sweep) -> list[Part]:
    """Losses and looks of all trials, those that did not finish among them."""
    parts: list[Part] = [Heading("Learning curves")]
    metrics = dict.fromkeys(
        m for trial in sweep.trials for m in trial.histories if m.startswith(("loss/", "validation/"))
    )
    for metric in sorted(metrics, key=lambda name: (name != "loss/total", name)):
        png = to_png(loss_figure(sweep.settings, metric))
        name = f"{metric.replace('/', '-')}.png"
        kind = "Validation" if metric.startswith("validation/") else "Training"
        parts.append(Picture(name, png, f"{kind} loss `{metric}` by step, of every trial; a colour a setting."))
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
