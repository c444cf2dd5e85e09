"""Tables of documents out of recorded results, and the marked blocks of Markdown that they stand in.

    <!-- results: NAME -->
    <!-- end of results -->

Shape letters: S seeds, M mixtures.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from cocktail.metrics.intervals import Recordings
from cocktail.report.markdown import INTERVAL, format_count, markdown_table
from cocktail.studies.origins import Origin
from cocktail.studies.recorded_results import RecordedResults
from cocktail.tasks.rows import CONTROL, MODEL, rows_of
from cocktail.tasks.scores import Score, ScoreGroup, order_note
from cocktail.text.printable import in_markdown
from cocktail.types import UsageError

_BLOCK = re.compile(r"^(<!-- results: (\S+) -->\n)(.*?)^(<!-- end of results -->)$", re.DOTALL | re.MULTILINE)
_BEGIN, _END = re.compile(r"^<!-- results:", re.MULTILINE), re.compile(r"^<!-- end of results", re.MULTILINE)


def interval_cell(score: Score, values: np.ndarray, of_mixtures: Recordings, *, are_differences: bool = False) -> str:
    """The 95 % interval of the mean of a score's values [S, M], or of differences of two, as a table shows it, or why
    there is none.

    The one place where documents get an interval from.
    """
    found = (score.difference_interval if are_differences else score.mean_interval)(values, of_mixtures)
    return of_mixtures.why_none if found is None else score.interval(found.low, found.high)


@dataclass(frozen=True, kw_only=True)
class _System:
    """A line of a table: a model, a reading of it, or a control, under all seeds that there are of it."""

    name: str
    kind: str
    by_seed: dict[str, pa.Table]
    """Rows of RecordedResults.scores by seed."""
    steps: str
    """Training steps of its runs; empty for a control."""

    def values(self, score: str, seeds: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """The mixtures that have a score under all of some seeds, sorted, and the scores [S, M]."""
        known = [
            {
                name: value
                for name, value in zip(rows["mixture_id"].to_pylist(), rows[score].to_pylist(), strict=True)
                if value is not None
            }
            for rows in (self.by_seed[seed] for seed in seeds)
        ]
        names = sorted(set.intersection(*map(set, known)))
        return names, np.array([[scores[name] for name in names] for scores in known], np.float64)


def results_table(results: RecordedResults) -> str:
    """Recorded results as Markdown: a table for each group of mixtures, and below what scores are and what made them.

    A line is a mean over a system's seeds and over the mixtures that all of them have a score of, with the interval of
    the headline score, and with the paired difference from the reference.
    """
    systems = _systems(results)
    sections = [_group_table(results, systems, group) for group in results.groups]
    shown = [system.name for system in systems]
    shares = [item for origin in results.origins for item in origin.in_best_order.items()]
    as_their_model = _readings_as_their_model(results.origins)
    order = order_note((label, share) for label, share in shares if label in shown and label not in as_their_model)
    parts = [
        *sections,
        _wrapped(" ".join(filter(None, [results.about, order]))),
        _origins_in_words(results),
        _commands(results.origins),
    ]
    return "\n\n".join(filter(None, parts))


def fill(text: str, table_of: Callable[[str], str]) -> str:
    """A document with the tables of its marked blocks, by name, written anew.

    Raises UsageError for a mark that begins or ends no block, with its line.
    """
    inside = [match.span() for match in _BLOCK.finditer(text)]
    nested = [match for match in _BLOCK.finditer(text) if _BEGIN.search(match[3])]
    for mark in (*_BEGIN.finditer(text), *_END.finditer(text)):
        if nested or not any(begin <= mark.start() < end for begin, end in inside):
            line = text.count("\n", 0, mark.start()) + 1
            raise UsageError(
                f"line {line}: a mark without its other one: a block begins with '<!-- results: NAME -->' and "
                "ends with '<!-- end of results -->', each on a line of its own"
            )
    return _BLOCK.sub(lambda match: f"{match[1]}\n{table_of(match[2])}\n\n{match[4]}", text)


def fill_documents(project: Path, *, write: bool) -> list[str]:
    """Fill the marked blocks of README.md and docs/*.md from docs/results; returns the documents that were stale.

    Without `write`, and where one cannot be filled, all are left as they are. Raises UsageError for a block without
    results, and for results that no block shows.
    """
    folder = project / "docs" / "results"
    shown: set[str] = set()

    def table_of(name: str) -> str:
        shown.add(name)
        return results_table(RecordedResults.read(folder, name))

    stale: dict[Path, str] = {}
    for path in [project / "README.md", *sorted((project / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        try:
            filled = fill(text, table_of)
        except UsageError as error:
            raise UsageError(f"{path.relative_to(project)}: {error}") from error
        if filled != text:
            stale[path] = filled
    if unused := {path.stem for pattern in ("*.json", "*.parquet") for path in folder.glob(pattern)} - shown:
        raise UsageError(f"no document shows the results {', '.join(sorted(unused))} of docs/results: remove them")
    if write:
        for path, filled in stale.items():
            path.write_text(filled, encoding="utf-8")
    return [str(path.relative_to(project)) for path in stale]


def _systems(results: RecordedResults) -> list[_System]:
    rows: dict[str, dict[str, pa.Table]] = {}
    kinds: dict[str, str] = {}
    steps: dict[str, dict[str, None]] = {}
    for number, origin in enumerate(results.origins):
        of_run = results.scores.filter(pa.array(results.scores["run"].to_numpy() == number))
        for system in of_run["system"].unique().to_pylist():
            chosen = rows_of(of_run, "system", [system])
            rows.setdefault(system, {})[origin.seed] = chosen
            kinds[system] = chosen["kind"][0].as_py()
            steps.setdefault(system, {})["" if kinds[system] == CONTROL else str(origin.steps)] = None
    return [
        _System(name=name, kind=kinds[name], by_seed=by_seed, steps=" and ".join(steps[name]))
        for name, by_seed in rows.items()
    ]


def _group_table(results: RecordedResults, systems: Sequence[_System], group: ScoreGroup) -> str:
    """The table of a group's scores, lowest headline first; empty if nothing has them."""
    headline = group.headline
    others = [score for score in group.scores if score != headline]
    (reference,) = (
        system for system in systems if system.kind in (MODEL, CONTROL) and system.name == results.reference
    )
    recordings = _recordings(results)
    tells_steps = len({origin.steps for origin in results.origins}) > 1
    lines = []
    for system in systems:
        seeds = list(system.by_seed)
        names, values = system.values(headline.name, seeds)
        if not names:
            continue
        of_mixtures = Recordings([recordings[name] for name in names])
        bounds = interval_cell(headline, values, of_mixtures)
        cells = [system.name, headline.cell(float(values.mean())), bounds]
        cells += _difference(system, reference, headline, recordings)
        cells += [_mean(score, system.values(score.name, seeds)[1]) for score in others]
        cells += [system.steps] if tells_steps else []
        cells += ["" if system.kind == CONTROL else str(len(seeds)), str(len(names)), format_count(of_mixtures.number)]
        lines.append((float(values.mean()), cells))
    if not lines:
        return ""
    header = ["system", headline.title, INTERVAL, f"less {results.reference}", INTERVAL]
    header += [score.title for score in others]
    header += [*(["steps"] if tells_steps else []), "seeds", "mixtures", "recordings"]
    title = f"{group.title.capitalize()}, in {results.unit}:" if group.title else f"In {results.unit}:"
    table = markdown_table(header, [cells for _, cells in sorted(lines, key=lambda line: line[0])])
    return "\n\n".join([title, table, *_of_fewer_mixtures(systems, headline)])


def _of_fewer_mixtures(systems: Sequence[_System], score: Score) -> list[str]:
    """A paragraph for each reading or control that has a score of fewer mixtures than a model: the models on those."""
    models = [system for system in systems if system.kind == MODEL]
    of_models = {system.name: system.values(score.name, list(system.by_seed)) for system in models}
    paragraphs = []
    for system in [system for system in systems if system.kind != MODEL]:
        names, _ = system.values(score.name, list(system.by_seed))
        told = []
        for model, (known, values) in of_models.items():
            common = sorted(set(known) & set(names))
            if common and len(common) < len(known):
                mean = float(values[:, np.searchsorted(known, common)].mean())
                told.append(f"that of {in_markdown(model)} is {score.cell(mean)} on {len(common)} of its {len(known)}")
        if told:
            text = f"The {score.title} of {in_markdown(system.name)} is a mean of fewer mixtures. On the same mixtures,"
            paragraphs.append(_wrapped(f"{text} {', '.join(told)}."))
    return paragraphs


def _difference(
    system: _System, reference: _System, score: Score, recordings: dict[str, list[str | None]]
) -> list[str]:
    """How far a system is from the reference, and its interval: under the seeds of both, or, as a control has none,
    under all of the other one's."""
    if system is reference:
        return ["", ""]
    is_control = CONTROL in (system.kind, reference.kind)
    seeds = [seed for seed in reference.by_seed if is_control or seed in system.by_seed]
    if not seeds:
        return ["", "no seed in common"]
    own_names, own = system.values(score.name, list(system.by_seed) if is_control else seeds)
    names, others = reference.values(score.name, seeds)
    common = sorted(set(own_names) & set(names))
    if not common:
        return ["", "no mixture in common"]
    differences = own[:, np.searchsorted(own_names, common)] - others[:, np.searchsorted(names, common)]
    of_mixtures = Recordings([recordings[name] for name in common])
    bounds = interval_cell(score, differences, of_mixtures, are_differences=True)
    is_of_fewer = len(seeds) == 1 and not is_control and set(system.by_seed) != set(reference.by_seed)
    return [score.signed(float(differences.mean())), f"{bounds}, one seed in common" if is_of_fewer else bounds]


def _recordings(results: RecordedResults) -> dict[str, list[str | None]]:
    columns = results.scores.select(["mixture_id", "recordings"]).to_pydict()
    return dict(zip(columns["mixture_id"], columns["recordings"], strict=True))


def _mean(score: Score, values: np.ndarray) -> str:
    return score.cell(float(values.mean()) if values.size else None)


def _origins_in_words(results: RecordedResults) -> str:
    """Commit, versions, day, machine and budget; and that one seed is one seed."""
    origins = results.origins

    def each(values: Sequence[str]) -> str:
        return " and ".join(dict.fromkeys(values))

    minutes = [f"{seconds / 60:.1f}" for seconds in sorted(origin.seconds for origin in origins)]
    took = " to ".join(dict.fromkeys([minutes[0], minutes[-1]]))
    steps = sorted({origin.steps for origin in origins})
    budget = " to ".join(str(number) for number in dict.fromkeys([steps[0], steps[-1]]))
    batches = each([str(origin.batch_size) for origin in origins])
    days, machines = each(sorted(origin.date for origin in origins)), each([origin.machine for origin in origins])
    text = (
        f"Commit {each([origin.commit[:10] for origin in origins])}, torch {each([o.torch for o in origins])}, "
        f"{days}, {machines}: {budget} steps of {batches} mixtures, {took} minutes a run."
    )
    seeds = {setting: [origin.seed for origin in origins if origin.setting == setting] for setting in results.settings}
    single = [setting for setting, of_setting in seeds.items() if len(of_setting) == 1]
    if len(single) == len(seeds):
        text += f" One seed ({each([origin.seed for origin in origins])}): intervals are of that seed alone."
        return _wrapped(text)
    if len(set(map(tuple, seeds.values()))) == 1:
        return _wrapped(f"{text} Seeds {', '.join(next(iter(seeds.values())))}.")
    told = "; ".join(f"{setting}: {', '.join(of_setting)}" for setting, of_setting in seeds.items())
    alone = f" One seed of {', '.join(single)}: intervals are of that seed alone." if single else ""
    return _wrapped(f"{text} Seeds of {told}.{alone}")


def _readings_as_their_model(origins: Sequence[Origin]) -> set[str]:
    """Readings of models, such as soft masks, of which as much is in the best order as of their model in each run."""
    alike: dict[str, bool] = {}
    for origin in origins:
        own = origin.in_best_order.get(origin.setting, 0.0)
        for label, share in origin.in_best_order.items():
            alike[label] = alike.get(label, label != origin.setting) and share == own
    return {label for label, is_alike in alike.items() if is_alike}


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _commands(origins: Sequence[Origin]) -> str:
    """The commands, each once: with SEED for the seed, which is told beside."""
    commands = [command for origin in origins for command in origin.commands_of_any_seed]
    return "\n".join(f"    {command}" for command in dict.fromkeys(commands))
