from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cocktail.report.markdown import INTERVAL
from cocktail.studies.recorded_results import RecordedResults
from cocktail.studies.results_tables import fill, fill_documents, results_table
from cocktail.studies.scored_run import ScoredRun
from cocktail.tasks.localization.tables import ABOUT_AUC
from cocktail.types import UsageError
from tests.made.results.recorded import made_origin, made_recorded, made_run
from tests.made.results.sweep import made_localization
from tests.made.results.systems import without_names

BLOCK = "<!-- results: small -->\n<!-- end of results -->\n"


def _lines(table: str) -> dict[str, list[str]]:
    """Cells of a table's lines, by their first one."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells}


def test_a_line_is_the_mean_over_seeds_and_mixtures_lowest_first() -> None:
    lines = _lines(results_table(made_recorded()))
    assert list(lines) == ["system", "mixture", "static", "sgn", "sgn, soft masks"]
    column = lines["system"].index
    assert {name: cells[column("SDR")] for name, cells in lines.items() if name != "system"} == {
        "mixture": "0.00", "static": "2.00", "sgn": "6.00", "sgn, soft masks": "8.00",
    }  # fmt: skip
    assert [lines[name][column("seeds")] for name in ("mixture", "static", "sgn")] == ["", "1", "2"]
    assert {cells[column("mixtures")] for name, cells in lines.items() if name != "system"} == {"3"}


def _of_recordings(recordings: Sequence[Sequence[str | None]]) -> dict[str, list[str]]:
    """Lines of a table whose three mixtures are of some recordings."""
    made = made_recorded()
    of_all = pa.array([*recordings] * (len(made.scores) // 3), pa.list_(pa.string()))
    column = made.scores.column_names.index("recordings")
    return _lines(results_table(replace(made, scores=made.scores.set_column(column, "recordings", of_all))))


def test_recordings_are_counted_and_intervals_are_by_them() -> None:
    apart, together, unknown = (
        _of_recordings(recordings)
        for recordings in (
            [["a", "b"], ["c", "d"], ["e", "f"]],
            [["a", "b"], ["a", "b"], ["a", "b"]],
            [["a", "b"], ["c", None], ["e", "f"]],
        )
    )
    bounds, count = apart["system"].index(INTERVAL), apart["system"].index("recordings")
    assert [lines["static"][count] for lines in (apart, together, unknown)] == ["6", "2", "not known"]
    # Student's of 1, 2 and 3: a mean of 2, a standard error of 1 / sqrt(3), and a quantile of 4.3027.
    assert apart["static"][bounds] == "-0.48 to 4.48"
    assert together["static"][bounds] == "too few recordings"
    assert unknown["static"][bounds] == "recordings not known"


def test_differences_from_the_reference_are_paired_by_seed_and_mixture() -> None:
    lines = _lines(results_table(made_recorded()))
    # Seed 0, the only one of both, has 1 - 4, 2 - 5 and 3 - 6.
    where = lines["system"].index("less sgn")
    assert lines["static"][where : where + 2] == ["-3.00", "-3.00 to -3.00, one seed in common"]
    # Its reading has 2 more under either seed, a control, which has no seed, 6 less on the mean of both.
    assert [lines[name][where] for name in ("sgn", "sgn, soft masks", "mixture")] == ["", "+2.00", "-6.00"]
    assert lines["sgn, soft masks"][where + 1] == "2.00 to 2.00"
    assert "less static" in _lines(results_table(made_recorded("static")))["system"]


def test_a_difference_between_settings_of_the_same_seeds_says_nothing_of_them() -> None:
    made = made_recorded()
    kept = made.scores.filter(pa.array(made.scores["run"].to_numpy() != 1))
    lines = _lines(results_table(replace(made, scores=kept)))
    where = lines["system"].index("less sgn")
    assert lines["static"][where : where + 2] == ["-3.00", "-3.00 to -3.00"]


def test_a_control_of_fewer_mixtures_than_the_models_is_said_to_be_with_the_models_on_those() -> None:
    made = made_recorded()
    rows = made.scores.to_pylist()
    for row in rows:
        if row["system"] == "mixture" and row["mixture_id"].endswith("2"):
            row["sdr"] = None
    table = results_table(replace(made, scores=pa.Table.from_pylist(rows, schema=made.scores.schema)))
    # sgn has 4 and 5, and 6 and 7, on the first two of its three mixtures, static 1 and 2.
    assert (
        "The SDR of mixture is a mean of fewer mixtures. On the same mixtures, that of sgn is 5.50 on 2 of its 3, that "
        "of static is 1.50 on 2 of its 3."
    ) in table.replace("\n", " ")
    assert "fewer mixtures" not in results_table(made)


def test_what_scores_are_stands_below_the_tables_and_of_localization_the_floor_of_auc() -> None:
    assert "in dB; higher is better." in results_table(made_recorded())
    run = ScoredRun(results=made_localization({1: [0.25, 0.75]}), name="avgn", stored="nowhere")
    table = results_table(RecordedResults.of([(made_origin("avgn"), run)])).replace("\n", " ")
    assert table.index("Mixtures of 1 source") < table.index(ABOUT_AUC) < table.index("Commit ")


def test_whose_estimates_are_in_the_best_order_stands_below_as_a_mean_over_seeds() -> None:
    runs = [
        (made_origin("sgn", "0"), made_run({"sgn": [1.0, 2.0], "sgn, soft masks": [1.0, 2.0]})),
        (made_origin("sgn", "1"), made_run({"sgn": [1.0, 2.0], "sgn, soft masks": [1.0, 2.0]})),
        (made_origin("waves", "0"), made_run({"waves": [1.0, 2.0]})),
    ]
    nameless = ["waves", "sgn, soft masks"]
    runs = [
        (origin, replace(run, results=without_names(run.results, *(nameless if n else ()))))
        for n, (origin, run) in enumerate(runs)
    ]
    table = results_table(RecordedResults.of(runs)).replace("\n", " ")
    assert "In 50% of the mixtures this helps sgn, soft masks. In all mixtures this helps waves." in table
    assert "best order" not in results_table(made_recorded())
    of_models = RecordedResults.of(runs).scores.filter(pc.field("kind") == "model")  # what is not shown is not told of
    table = results_table(replace(RecordedResults.of(runs), scores=of_models)).replace("\n", " ")
    assert "In all mixtures this helps waves." in table


def test_a_reading_that_is_in_the_best_order_as_its_model_is_not_named_beside_it() -> None:
    runs = [
        (made_origin("sgn", seed), made_run({"sgn": [1.0, 2.0], "sgn, soft masks": [1.0, 2.0]})) for seed in ("0", "1")
    ]
    both = [(made, replace(run, results=without_names(run.results, "sgn", "sgn, soft masks"))) for made, run in runs]
    assert "In all mixtures this helps sgn. " in results_table(RecordedResults.of(both)).replace("\n", " ")
    mixed = [runs[0], (both[1][0], replace(both[1][1], results=without_names(runs[1][1].results, "sgn, soft masks")))]
    table = results_table(RecordedResults.of(mixed)).replace("\n", " ")
    assert "In 50% of the mixtures this helps sgn, soft masks. " in table


def test_steps_have_a_column_where_they_differ_and_seeds_are_told_once_where_they_are_the_same() -> None:
    run = made_run({"sgn": [1.0, 2.0], "mixture": [0.0, 0.0]})
    other = made_run({"static": [1.0, 2.0]})
    first, second = made_origin("sgn", "0"), made_origin("static", "0")
    later = [(replace(made, seed="1"), of) for made, of in ((first, run), (second, other))]
    table = results_table(RecordedResults.of([(first, run), (second, other), *later]))
    assert "steps |" not in table and table.count("Seeds 0, 1.") == 1
    longer = [(replace(made, steps=425), of) for made, of in ((second, other), later[1])]
    table = results_table(RecordedResults.of([(first, run), *longer, later[0]]))
    header, _, *lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")
    ]
    steps = {line[0]: line[header.index("steps")] for line in lines}
    assert steps == {"sgn": "300", "static": "425", "mixture": ""}
    assert "300 to 425 steps of 8 mixtures" in table.replace("\n", " ")


def test_one_setting_is_compared_with_controls_and_said_to_be_of_one_seed() -> None:
    one = RecordedResults.of([(made_origin(seed="7"), made_run({"sgn": [2.0, 2.0, 2.0], "mixture": [0.0, 0.0, 0.0]}))])
    table = results_table(one)
    lines = _lines(table)
    assert lines["system"][:2] == ["SDR", INTERVAL]
    assert lines["sgn"][:2] == ["2.00", "2.00 to 2.00"]
    where = lines["system"].index("less sgn")
    assert lines["mixture"][where : where + 2] == ["-2.00", "-2.00 to -2.00"]
    assert "8 mixtures, 1.5 minutes a run. One seed (7): intervals are of that seed alone." in table.replace("\n", " ")


def test_what_made_the_results_stands_below() -> None:
    table = results_table(made_recorded())
    assert (
        "Commit 0123456789, torch 2.14.1, 2026-01-31, 2 cores: 300 steps of 8 mixtures, 1.5 to 2.0 minutes a run. "
        "Seeds of sgn: 0, 1; static: 0. One seed of static: intervals are of that seed alone."
    ) in table.replace("\n", " ")
    assert table.endswith("\n    python jobs/sgn.py music --data SHARDS --seed SEED")


def test_each_number_of_sources_has_a_table() -> None:
    localized = made_localization({1: [0.25, 0.75], 2: [0.5, 0.0]})
    run = ScoredRun(results=localized, name="avgn", stored="nowhere")
    table = results_table(RecordedResults.of([(made_origin("avgn"), run)]))
    single, pairs = table.index("Mixtures of 1 source"), table.index("Mixtures of 2 sources")
    assert single < pairs
    assert "AP" in _lines(table[single:pairs])["system"]
    assert "CAP" in _lines(table[pairs:])["system"]
    # APs of the single sources are half of their IoUs: 12.5 and 37.5 %.
    lines = _lines(table[single:pairs])
    assert lines["avgn"][lines["system"].index("AP")] == "25.0"


def test_only_what_stands_in_a_block_is_written_anew_and_twice_is_as_once() -> None:
    text = f"# Title\n\nBefore.\n\n{BLOCK}\nAfter.\n"
    filled = fill(text, lambda name: f"table of {name}")
    assert filled == (
        "# Title\n\nBefore.\n\n<!-- results: small -->\n\ntable of small\n\n<!-- end of results -->\n\nAfter.\n"
    )
    assert fill(filled, lambda name: f"table of {name}") == filled
    assert fill(filled, lambda _: "another") == filled.replace("table of small", "another")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("<!-- results: a -->\n| 1 |\n", 1),
        ("text\n<!-- end of results -->\n", 2),
        ("<!-- results: a -->\n<!-- results: b -->\n<!-- end of results -->\n", 1),
        ("<!-- results: a b -->\n<!-- end of results -->\n", 1),
    ],
)
def test_a_mark_without_its_other_one_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(UsageError, match=f"line {line}: a mark without its other one"):
        fill(text, lambda name: name)


def _project(folder: Path) -> Path:
    (folder / "docs").mkdir()
    (folder / "README.md").write_text("# Title\n")
    (folder / "docs" / "small.md").write_text(f"# Small\n\n{BLOCK}")
    made_recorded().write(folder / "docs" / "results", "small")
    return folder


def test_a_table_that_is_not_what_its_results_give_is_found_and_mended(tmp_path: Path) -> None:
    project = _project(tmp_path)
    document = project / "docs" / "small.md"
    assert fill_documents(project, write=True) == ["docs/small.md"]
    written = document.read_text()
    assert fill_documents(project, write=False) == []
    for stale in (written.replace("6.00", "6.10", 1), written.replace("Commit 0123456789", "Commit 9876543210")):
        document.write_text(stale)
        assert fill_documents(project, write=False) == ["docs/small.md"]
        assert document.read_text() == stale
    assert fill_documents(project, write=True) == ["docs/small.md"]
    assert document.read_text() == written


def test_a_table_is_stale_where_its_results_are_others(tmp_path: Path) -> None:
    project = _project(tmp_path)
    fill_documents(project, write=True)
    made_recorded("static").write(project / "docs" / "results", "small")
    assert fill_documents(project, write=False) == ["docs/small.md"]


def test_a_block_without_results_and_results_without_a_block_are_refused(tmp_path: Path) -> None:
    project = _project(tmp_path)
    made_recorded().write(project / "docs" / "results", "other")
    before = (project / "docs" / "small.md").read_text()
    with pytest.raises(UsageError, match="no document shows the results other"):
        fill_documents(project, write=True)
    assert (project / "docs" / "small.md").read_text() == before
    for path in (project / "docs" / "results").glob("small.*"):
        path.unlink()
    with pytest.raises(UsageError, match=r"docs/small\.md: there is no .*small\.json"):
        fill_documents(project, write=False)
