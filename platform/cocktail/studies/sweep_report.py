"""The report of a sweep: what was swept, scores beside the paper's, differences, curves, examples, and every trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from cocktail.drawing import to_png
from cocktail.report.markdown import format_cell
from cocktail.report.page import Folded, Heading, Part, Picture, Table, Text, store_report
from cocktail.studies.scored_run import LoadTrained, ReadMixtures, load_model
from cocktail.studies.sweep import Setting, Sweep
from cocktail.studies.sweep_examples import example_parts
from cocktail.studies.sweep_figures import (
    looks_figure,
    loss_figure,
    numeric_paths,
    path_figure,
    settings_figure,
)
from cocktail.studies.sweep_tables import (
    Control,
    Layout,
    controls_of,
    difference_table,
    layouts,
    main_table,
    reading_table,
)
from cocktail.studies.trial import FINISHED, Trial
from cocktail.tasks.scores import Score, order_note
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
            group = sweep.groups[-1]
            parts += [
                Heading("Examples"),
                Text(
                    f"Best and worst are by the {group.headline.label} of {sweep.reference.label}, the reference. "
                    "Beside it stands the setting that is furthest from it on that mixture, each by the first of its "
                    "seeds."
                ),
                *example_parts(sweep.settings, sweep.reference, group, num_examples, load, read),
            ]
    parts += trial_parts(sweep)
    store_report(folder, f"Sweep {sweep.name}", parts)


def summary_parts(sweep: Sweep) -> list[Part]:
    """What was swept, of what, and what became of it."""
    became = Counter(kind_of(trial) for trial in sweep.trials)
    fates = [f"{number} {kind}" for kind, number in became.items()]
    if sweep.num_planned is not None and sweep.num_planned > len(sweep.trials):
        fates.append(f"{sweep.num_planned - len(sweep.trials)} of {sweep.num_planned} planned not begun")
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
        ["seed" if len(seeds) == 1 else "seeds", ", ".join(seeds)],
        ["trials", ", ".join(fates)],
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
    """The main tables with controls, and figures of the headline score, for each group of scores."""
    about = "Only finished trials count."
    if sweep.board is not None:
        about = (
            f"{sweep.board.about} Scores of several seeds are averaged over these, too. Below each: ± the standard "
            "deviation over seeds where there are several, and the 95 % interval, by recording and, where there are "
            "several, by seed: how far other recordings and other seeds could move the mean. Of one seed it is of that "
            f"seed alone, and says nothing of what another would give. {about} Excluded mixtures have no score, for "
            f"{sweep.board.why_none}. {_order_note(sweep)}"
        ).strip()
    parts: list[Part] = [Heading("Scores"), Text(about)]
    controls: list[Control] = []
    floors: list[Control] = []
    if sweep.reference is not None and sweep.board is not None:
        controls = controls_of(sweep.reference, sweep.board)
        floors = [control for control in controls if control.system in sweep.board.floors]
    all_layouts = layouts(sweep)
    if sweep.paper is not None and any(layout.table for layout in all_layouts):
        parts.append(
            Text(
                f"Columns headed paper are printed in {sweep.paper.title}: of {sweep.paper.of}, the paper's network, "
                "training and thresholds. Data and scale of this sweep may be others: compare the order of settings, "
                "not values."
            )
        )
    if sweep.recorded_paper is None:
        parts.append(Text("No paper's tables are recorded with this sweep: none stand beside its scores."))
    for number, layout in enumerate(all_layouts):
        parts.append(Heading(layout.title, 3))
        for group in sweep.groups or (None,):
            parts.append(main_table(layout, group, controls))
            parts += [] if group is None else _figures(number, layout, group.headline, floors)
    if len({value for trial in sweep.trials if (value := trial.tags.get("test_list_hash"))}) > 1:
        parts.append(
            Text("Trials were tested on different test lists: scores of one are not those of another's mixtures.")
        )
    if len({trial.run.board.rules for trial in sweep.trials if trial.run is not None}) > 1:
        parts.append(Text("Trials were scored by different rules: what is said of them above is of the first."))
    readings = [reading_table(sweep, score) for group in sweep.groups for score in (group.headline, *group.of_parts)]
    if any(readings):
        parts += [Heading("Other readings of the same weights", 3), *(table for table in readings if table is not None)]
    return parts


def _order_note(sweep: Sweep) -> str:
    """Which settings' answers say nothing of whose they are."""
    runs = [(setting.label, trial.run) for setting in sweep.settings for trial in setting.seeds.values()]
    known = [(label, run) for label, run in runs if run is not None]
    return order_note((label, run.board.share_in_best_order(run.results, run.own_system)) for label, run in known)


def _figures(number: int, layout: Layout, headline: Score, floors: Sequence[Control]) -> list[Part]:
    """A score by setting, beside what doing nothing is worth, and over each number that was swept, of a main table."""
    name, title = headline.name, f"{headline.label} in {headline.unit}"
    if not any(name in setting.summaries for setting in layout.settings):
        return []
    printed = {
        setting.label: scores[name] for setting in layout.settings if name in (scores := layout.printed(setting))
    }
    lines = {floor.system: floor.summaries[name].mean for floor in floors if name in floor.summaries}
    parts: list[Part] = [
        Picture(
            f"{name}-{number}.png",
            to_png(settings_figure(layout.settings, headline, lines, printed)),
            f"{title} by setting: mean over seeds, 95 % interval by recording and seed (of one seed, of it alone), and "
            "a dot for each seed.",
        )
    ]
    for path in numeric_paths(layout.settings, headline, [column.path for column in layout.columns]):
        parts.append(
            Picture(
                f"{name}-{number}-{path}.png",
                to_png(path_figure(layout.settings, headline, path, printed)),
                f"{title} over {path}: means with 95 % intervals by recording and seed, and a dot for each seed.",
            )
        )
    return parts


def difference_parts(sweep: Sweep, reference: Setting) -> list[Part]:
    """Each setting less the reference."""
    assert sweep.board is not None
    which = "the paper's own setting" if sweep.is_papers(reference) else "the first that has scores"
    parts: list[Part] = [
        Heading("Paired differences"),
        Text(
            f"Each setting less the reference, {reference.label} ({which}), in {sweep.board.unit}, on the test "
            "mixtures that both have scores of and under the training seeds that both have finished. In brackets the "
            "95 % interval, by recording and, where there are several, by seed, too. With one seed it is of these two "
            "trainings alone: it does not say that one setting is better than another. With two or three seeds it is "
            "wide, as so few say little. Each interval is of one comparison, not corrected for their number."
        ),
    ]
    if len(sweep.settings) == 1:
        return [*parts, Text("There is no other setting.")]
    return [*parts, *(difference_table(sweep, reference, group) for group in sweep.groups)]


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
    """Scores by class of the setting of the highest mean of the last headline."""
    assert sweep.board is not None
    headline = sweep.groups[-1].headline
    scored = [setting for setting in sweep.settings if headline.name in setting.summaries]
    if not scored:
        return []
    best = max(scored, key=lambda setting: setting.summaries[headline.name].mean)
    runs = [trial.run for trial in best.seeds.values() if trial.run is not None]
    parts: list[Part] = [Heading(f"By class: {best.label}")]
    try:
        classes: Sequence[str] = load_model(runs[0], load).classes
    except UsageError as error:
        classes = ()
        parts.append(Text(f"Classes have numbers for names: {error}."))
    results = pa.concat_tables([run.results for run in runs])
    header, rows = sweep.board.by_class(results, runs[0].own_system, classes)
    several = f"over {len(runs)} seeds, each of which counts a source once; intervals are of these seeds together"
    seeds = several if len(runs) > 1 else "of one seed"
    caption = f"The setting of the highest mean {headline.label}; means over sources, {seeds}, in {headline.unit}"
    return [*parts, Table(header, rows, caption)]


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
            str(trial.steps or ""),
            format_cell(trial.seconds_per_step),
            "" if trial.seconds is None else f"{trial.seconds / 60:.1f}",
            "\n".join([*(f"after {name}" for name in trial.stages), trial.name, f"`{trial.run_id}`"]),
            f"`{trial.tags['checkpoint']}`" if "checkpoint" in trial.tags else "none",
        ]
        for setting in sweep.settings
        for trial in setting.trials
    ]
    header = ["setting", "seed", "status", "steps", "s per step", "minutes", "MLflow run", "checkpoint"]
    caption = "Seconds per step are medians; minutes are from start to end"
    if any(trial.stages for trial in sweep.trials):
        caption += "; of what learns in stages, steps and minutes are those of all its stages together"
    return [Heading("Trials"), Table(header, rows, caption)]
