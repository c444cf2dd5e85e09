"""Two systems compared, by hand."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from matplotlib.patches import Rectangle

from cocktail.config.mixing import Mixing
from cocktail.metrics.intervals import Recordings
from cocktail.studies.comparison import Comparison, Side, compare
from cocktail.studies.comparison_report import comparison_figure, replay_command, store_comparison, to_markdown
from cocktail.studies.scored_run import ScoredRun, of_one_task, read_runs
from cocktail.tasks.separation.tables import SCORES
from cocktail.types import MixtureBatch, Separation, UsageError
from tests.made.results.localized_results import mixture, source
from tests.made.results.localized_results import table as localized
from tests.made.results.sides import Scores, results, side
from tests.made.results.systems import without_names


def of(comparison: Comparison, score: str = "sdr") -> dict:
    (row,) = (row for row in comparison.differences.to_pylist() if row["score"] == score)
    return row


def test_means_and_differences_are_over_the_mixtures_that_both_have_scores_of():
    both: Scores = {"m1": (1.0, 3.0), "m2": (9.0, 9.0), "m3": (None, 50.0), "m4": (4.0, 4.0), "m5": (5.0,)}
    a = side("A", {**both, "only-a": (99.0,)})
    others: Scores = {"m5": (None,), "m4": (4.0, 4.0), "m3": (1.0, 1.0), "m2": (3.0, 5.0), "m1": (4.0, 4.0)}
    found = compare(a, side("B", {"only-b": (-99.0,), "only-c": (-9.0,), **others}))
    assert (found.num_common, found.num_excluded, found.num_only_a, found.num_only_b) == (5, 2, 1, 2)
    assert found.mixtures["mixture_id"].to_pylist() == ["m1", "m2", "m4"]
    assert found.mixtures["sdr_difference"].to_pylist() == [-2.0, 5.0, 0.0]
    assert found.mixtures["class_ids"].to_pylist() == [[0, 1]] * 3
    row = of(found)
    assert (row["mean_a"], row["mean_b"], row["difference"]) == (5.0, 4.0, 1.0)
    assert row["share_a_better"] == pytest.approx(1 / 3)
    assert found.differences["score"].to_pylist() == list(SCORES)


def test_the_interval_is_that_of_the_differences_by_recording_whatever_the_order_of_the_rows():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(40, 2))
    names = [f"m{n:02}" for n in range(40)]
    a: Scores = {name: (float(pair[0]),) for name, pair in zip(names, values, strict=True)}
    b: Scores = {name: (float(pair[1]),) for name, pair in zip(names, values, strict=True)}
    row = of(compare(side("A", a), side("B", b)))
    expected = Recordings([[name] for name in names]).interval(values[:, 0] - values[:, 1])
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(expected)
    assert (row["mixtures"], row["recordings"]) == (40, 40)
    assert row["low"] < row["difference"] < row["high"]
    shuffled = {name: a[name] for name in generator.permutation(names).tolist()}
    assert of(compare(side("A", shuffled), side("B", b))) == row
    turned = of(compare(side("A", b), side("B", a)))
    assert turned["difference"] == pytest.approx(-row["difference"])
    four = {name: f"clip {n % 4}" for n, name in enumerate(names)}
    row = of(compare(side("A", a, recordings=four), side("B", b, recordings=four)))
    expected = Recordings([[name] for name in four.values()]).interval(values[:, 0] - values[:, 1])
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(expected)
    assert (row["mixtures"], row["recordings"]) == (40, 4)


def test_a_difference_that_is_the_same_on_each_mixture_is_certain():
    b: Scores = {f"m{n}": (n / 3,) for n in range(9)}
    row = of(compare(side("A", {f"m{n}": (n / 3 + 1,) for n in range(9)}), side("B", b)))
    assert (row["low"], row["high"]) == (pytest.approx(1), pytest.approx(1))
    assert row["share_a_better"] == 1


def test_one_common_mixture_has_a_difference_and_no_interval():
    row = of(compare(side("A", {"m": (2.0,)}), side("B", {"m": (1.0,)})))
    assert (row["difference"], row["low"], row["high"]) == (1.0, None, None)
    assert (row["why_no_interval"], row["mixtures"], row["recordings"]) == ("too few recordings", 1, 1)


def test_runs_without_a_common_mixture_are_refused_with_the_hashes_of_their_lists():
    a = side("A", {"m1": (1.0,)}, tags={"test_list_hash": "abc"})
    with pytest.raises(
        UsageError, match="no mixture is scored in both; test_list_hash: run-A has abc, run-B has an unkn"
    ):
        compare(a, side("B", {"m2": (1.0,)}))


def test_runs_with_silent_references_only_are_refused():
    with pytest.raises(UsageError, match="none of the 1 mixtures of both has a score"):
        compare(side("A", {"m1": (None,), "m2": (1.0,)}), side("B", {"m1": (1.0,), "m3": (1.0,)}))


def test_the_extremes_are_the_largest_and_smallest_differences_and_no_mixture_is_both():
    a: Scores = {f"m{n}": (float(n),) for n in range(5)}
    found = compare(side("A", a), side("B", dict.fromkeys(a, (0.0,))))
    for count, (most, least) in {
        0: ([], []),
        2: (["m4", "m3"], ["m0", "m1"]),
        3: (["m4", "m3", "m2"], ["m0", "m1"]),
        9: (["m4", "m3", "m2", "m1", "m0"], []),
    }.items():
        largest, smallest = found.extremes("sdr", count)
        assert (largest["mixture_id"].to_pylist(), smallest["mixture_id"].to_pylist()) == (most, least)


def test_a_runs_own_system_is_neither_a_control_nor_another_reading():
    names = ("mixture", "sgn", "sgn, soft masks", "ideal ratio mask")
    run = ScoredRun(
        results=pa.concat_tables([results(name, {"m": (0.0,)}) for name in names]), name="run-1", stored="x"
    )
    assert Side.of("A", run, None).system == "sgn"
    assert Side.of("A", run, "mixture").system == "mixture"
    with pytest.raises(UsageError, match=r"run-1 has no scores of 'soft': name one of 'mixture', 'sgn', "):
        Side.of("B", run, "soft")
    other = ScoredRun(results=pa.concat_tables([run.results, results("two", {"m": (0.0,)})]), name="run-2", stored="x")
    with pytest.raises(UsageError, match=r"run-2 has 2 systems of its own: name one of 'mixture', 'sgn', "):
        Side.of("A", other, None)


def test_the_report_names_what_is_compared_and_how_many_mixtures_are_left_out():
    a = side("A", {"m1": (1.0, 3.0), "m2": (8.0,), "m3": (None,), "x": (0.0,)})
    text = to_markdown(compare(a, side("B", {"m1": (4.0, 4.0), "m2": (2.0,), "m3": (1.0,)}, "other")), "sdr", 1)
    assert text.startswith(
        "# model against other\n\n- A: `model` of run-A, stored in x\n- B: `other` of run-B, stored in x\n"
    )
    assert "3 mixtures are in both, 1 only in A, 0 only in B. Of those in both, 1 have no score" in text
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    header = ["dB, higher is better", "A", "B", "A - B", "95 % interval, by recording", "A better in"]
    assert lines[0] == [*header, "mixtures", "recordings"]
    assert lines[2] == ["SDR", "5.00", "3.00", "+2.00", "too few recordings", "50%", "2", "3"]
    assert "Each side is one training, of one seed" in text and "best order" not in text
    nameless = replace(a, run=replace(a.run, results=without_names(a.run.results, "model")))
    other = side("B", {"m1": (4.0, 4.0), "m2": (2.0,)}, "other")
    assert "In 33% of the mixtures this helps A." in to_markdown(compare(nameless, other), "sdr", 1)
    assert ["m2", "class 0", "8.00", "2.00", "+6.00", ""] in lines
    assert ["m1", "class 0 + class 1", "2.00", "4.00", "-2.00", ""] in lines
    assert text.index("Largest") < text.index("| m2") < text.index("Smallest") < text.index("| m1")


def test_no_name_in_a_comparison_is_a_picture_or_a_tag():
    evil = "![x](http://evil/a.png) <b> `"
    a, b = (side(letter, {evil: (score,)}, f"{letter}{evil}") for letter, score in (("A", 1.0), ("B", 2.0)))
    a = replace(a, problem=evil, run=replace(a.run, name=evil))
    lines = to_markdown(compare(a, b), "sdr", 1).splitlines()
    no_code = [re.sub(r"(?<!\\)`[^`]*`", "", line) for line in lines if not line.startswith("    ")]
    assert not [line for line in no_code if re.search(r"(?<!\\)(<b>|\[x)", line)]
    assert sum(r"!\[x\]" in line for line in lines) == 3  # heading, problem, table


def test_the_figure_has_units_one_point_a_mixture_and_the_diagonal():
    values = [-3.0, 1.0, 5.0, 5.0]
    a: Scores = {f"m{n}": (value,) for n, value in enumerate(values)}
    found = compare(side("A", a), side("B", dict.fromkeys(a, (1.0,)), "other"))
    scatter, histogram = comparison_figure(found, "sir").axes
    assert (scatter.get_ylabel(), scatter.get_xlabel()) == ("SIR of A: model (dB)", "SIR of B: other (dB)")
    points = np.asarray(scatter.collections[0].get_offsets())
    np.testing.assert_array_equal(points, [[1.0, value] for value in values])
    np.testing.assert_array_equal(scatter.lines[0].get_xydata(), [[-3, -3], [5, 5]])
    assert histogram.get_xlabel() == "A - B of SIR (dB)"
    assert sum(bar.get_height() for bar in histogram.patches if isinstance(bar, Rectangle)) == 4


def test_axes_of_two_runs_of_one_system_name_the_runs():
    a: Scores = {"m1": (1.0,), "m2": (2.0,)}
    sides = side("A", a), side("B", a)
    sides = [replace(each, run=replace(each.run, name=f"seed {n}")) for n, each in enumerate(sides)]
    (scatter, _) = comparison_figure(compare(*sides), "sdr").axes
    system = sides[0].system
    assert sides[1].system == system
    assert scatter.get_ylabel() == f"SDR of A: {system} of seed 0 (dB)"
    assert scatter.get_xlabel() == f"SDR of B: {system} of seed 1 (dB)"


def test_systems_that_are_equal_everywhere_can_be_drawn():
    a: Scores = {"m1": (1.0,), "m2": (1.0,)}
    comparison_figure(compare(side("A", a), side("B", a)), "sdr").canvas.draw()


class Tones:
    """A separator of two readings: as it is 0.25 everywhere, and 0.5 by its alternative."""

    def __call__(self, batch):
        raise AssertionError("examples need no losses")

    def separate(self, mixture, query):
        class_ids = query.named
        soft = self._constant(mixture, class_ids, 0.5)
        return replace(self._constant(mixture, class_ids, 0.25), alternatives={"soft masks": soft})

    def _constant(self, mixture, class_ids, value: float):
        shape = class_ids.shape
        return Separation(
            estimates=torch.full((*shape, mixture.shape[-1]), value),
            masks=torch.full((*shape, 8, 8), value),
            class_ids=class_ids,
        )


MIXTURES: Scores = {"m1": (1.0, 3.0), "m2": (8.0, 8.0), "m3": (0.0, 0.0)}
TEST_LIST = pa.table({"mixture_id": ["m1", "m2", "m3", "m4"], "clip_id": [["a", "b"]] * 4})
KNOWN = {"checkpoint": "runs/step-1", "data": "/shards"}


def load(checkpoint: str):
    assert checkpoint == KNOWN["checkpoint"]
    return SimpleNamespace(
        name="tones", model=Tones(), mixing=Mixing(num_sources=4, min_sources=3), classes=("bell", "drum")
    )


def read(run: ScoredRun, rows: pa.Table, mixing: Mixing) -> MixtureBatch:
    """Noise; and the settings must be those of the rows, not of the training."""
    assert (mixing.num_sources, mixing.sample_rate_hz, mixing.segment_samples) == (2, 1000, 4000)
    generator = torch.Generator().manual_seed(0)
    B = len(rows)
    return MixtureBatch(
        mixture_ids=tuple(rows["mixture_id"].to_pylist()),
        sources=torch.randint(-9000, 9000, (B, 2, 4000), generator=generator, dtype=torch.int16),
        gains=torch.ones(B, 2),
        class_ids=torch.tensor([[0, 1]] * B),
        present=torch.ones(B, 2, dtype=torch.bool),
    )


PARAMS = {"mixing.sample_rate_hz": "1000", "mixing.segment_samples": "4000", "evaluation.test_list": "None"}


def tracked(letter: str, scores: Scores, system: str) -> Side:
    return side(letter, scores, system, tags=KNOWN, params=PARAMS, test_list=TEST_LIST)


def test_the_mixtures_listed_are_linked_to_pictures_and_sounds_of_both_systems(tmp_path):
    a = tracked("A", MIXTURES, "tones")
    b = tracked("B", dict.fromkeys(MIXTURES, (2.0, 2.0)), "tones, soft masks")
    text = store_comparison(tmp_path, compare(a, b), "sdr", 1, load, read)
    assert (tmp_path / "compare.md").read_text() == text + "\n"
    assert "bell + drum" in text
    assert "No pictures" not in text
    for mixture_id, letter in itertools.product(("m2", "m3"), "AB"):
        folder = f"examples-{letter.lower()}"
        assert f"{letter}: [picture]({folder}/{mixture_id}.png) [sounds]({folder}/{mixture_id}/)" in text
        assert (tmp_path / folder / f"{mixture_id}.png").exists()
        assert len(list((tmp_path / folder / mixture_id).glob("*.wav"))) == 5
    assert "m1" not in text, "it is neither the best nor the worst"
    assert {path.name for path in tmp_path.iterdir()} == {
        "compare.md", "compare.png", "differences.parquet", "examples-a", "examples-b",
    }  # fmt: skip
    # Of these systems one gives a quarter everywhere, the other a half.
    for letter, level in (("a", 0.25), ("b", 0.5)):
        sound, rate = soundfile.read(tmp_path / f"examples-{letter}" / "m2" / "estimate-1-drum.wav")
        assert rate == 1000
        np.testing.assert_allclose(sound, level, atol=1e-3)


@pytest.mark.parametrize(
    ("known", "problem"),
    [
        ({"tags": {}}, "where its checkpoint and data lie is not known of run-A"),
        ({"tags": {"checkpoint": "runs/step-1"}}, "where its data lie is not known of run-A"),
        ({"test_list": None}, "run-A has no test_list.parquet"),
        ({"test_list": TEST_LIST.slice(1)}, "the test_list.parquet of run-A lists other mixtures than it has scores"),
        ({"tags": {**KNOWN, "checkpoint": "gone"}}, "gone is not a checkpoint"),
    ],
)
def test_where_nothing_can_be_shown_the_report_says_why_and_how_to_build_the_mixtures_again(tmp_path, known, problem):
    def load_or_refuse(checkpoint: str):
        if checkpoint == "gone":
            raise UsageError("gone is not a checkpoint")
        return load(checkpoint)

    a = side("A", MIXTURES, "tones", **{"tags": KNOWN, "params": PARAMS, "test_list": TEST_LIST, **known})
    b = side("B", dict.fromkeys(MIXTURES, (2.0, 2.0)), "other")
    text = store_comparison(tmp_path, compare(a, b), "sdr", 9, load_or_refuse, read)
    assert f"No pictures and sounds of A: {problem}" in text
    assert "No pictures and sounds of B: where its checkpoint and data lie is not known of run-B." in text
    assert f"    {replay_command(a.run, ['m2', 'm1', 'm3'])}" in text
    assert "examples-" not in text


def test_a_control_has_scores_and_no_sounds_of_its_own(tmp_path):
    a, b = tracked("A", MIXTURES, "ideal binary mask"), tracked("B", MIXTURES, "tones")
    text = store_comparison(tmp_path, compare(a, b), "sdr", 1, load, read)
    assert "No pictures and sounds of A: ideal binary mask is a control" in text
    assert "B: [picture](examples-b/m1.png)" in text
    assert "bell + drum" in text


def test_without_mixtures_to_look_at_no_checkpoint_is_opened(tmp_path):
    def refuse(*_):
        raise AssertionError

    found = compare(tracked("A", MIXTURES, "tones"), tracked("B", MIXTURES, "tones"))
    text = store_comparison(tmp_path, found, "sdr", 0, refuse, refuse)
    assert "Largest" not in text
    assert "No pictures" not in text


def test_what_a_run_has_stored_is_linked_if_nothing_can_be_made(tmp_path):
    stored = tmp_path / "my artifacts"
    (stored / "examples").mkdir(parents=True)
    (stored / "examples" / "m2.png").touch()
    a = side("A", MIXTURES, "tones", stored=str(stored))
    text = store_comparison(tmp_path, compare(a, side("B", MIXTURES)), "sdr", 9, load, read)
    folder = f"{tmp_path}/my%20artifacts/examples"
    assert f"A: [picture]({folder}/m2.png) [sounds]({folder}/m2/)" in text
    assert "m1.png" not in text


def test_the_replay_command_has_what_is_known_in_a_form_that_a_shell_takes():
    run = ScoredRun(results=results("x", {}), name="run", stored="x")
    assert replay_command(run, ["m1"]) == "python jobs/replay.py SHARDS m1 --checkpoint CHECKPOINT"
    tags, params = {"data": "/my shards", "checkpoint": "c"}, {"evaluation.test_list": "pairs.parquet"}
    run = ScoredRun(results=results("x", {}), name="run", stored="x", tags=tags, params=params)
    assert replay_command(run, ["m1", "m2"]) == (
        "python jobs/replay.py '/my shards' m1 m2 --checkpoint c --evaluation.test-list pairs.parquet"
    )
    params = {"evaluation.num_sources": "[1, 2]", "evaluation.arrangement": "whole", "evaluation.crop": "None"}
    run = ScoredRun(results=results("x", {}), name="run", stored="x", tags=tags, params=params)
    assert replay_command(run, ["m1"]) == (
        "python jobs/replay.py '/my shards' m1 --checkpoint c --evaluation.arrangement whole "
        "--evaluation.num-sources 1 2"
    )


def test_results_are_read_with_the_test_list_beside_them_and_other_files_are_refused(tmp_path):
    table = results("model", MIXTURES)
    pq.write_table(table, tmp_path / "results.parquet")
    (alone,) = read_runs(str(tmp_path))
    assert (alone.results, alone.test_list, alone.stored) == (table, None, str(tmp_path))
    pq.write_table(TEST_LIST, tmp_path / "test_list.parquet")
    assert ScoredRun.read(f"{tmp_path}/results.parquet").test_list == TEST_LIST
    with pytest.raises(UsageError, match=r"test_list.parquet: it is no table of results .*again with jobs/evaluate.py"):
        ScoredRun.read(f"{tmp_path}/test_list.parquet")
    with pytest.raises(
        UsageError, match=r"there is no .*other/results.parquet: give an MLflow run, or a file of results"
    ):
        read_runs(f"{tmp_path}/other")
    (tmp_path / "text.parquet").write_text("a,b")
    with pytest.raises(UsageError, match=r"text.parquet is no Parquet file"):
        ScoredRun.read(f"{tmp_path}/text.parquet")


def test_runs_of_several_tasks_are_compared_by_the_first_that_both_have_or_the_one_asked_for(tmp_path):
    maps = localized(mixture("m1", source(0.5, iou=0.5)))
    (tmp_path / "both").mkdir()
    for name, table in (("separation", results("model", MIXTURES)), ("localization", maps)):
        pq.write_table(table, tmp_path / "both" / f"results_{name}.parquet")
    pq.write_table(maps, tmp_path / "maps.parquet")
    both, alone = read_runs(f"{tmp_path}/both"), read_runs(f"{tmp_path}/maps.parquet")
    assert [run.task.name for run in both] == ["separation", "localization"]
    assert [run.stored for run in both] == [f"{tmp_path}/both/separation", f"{tmp_path}/both/localization"]
    assert of_one_task([both, both]) == [both[0], both[0]]
    assert of_one_task([both, both], "localization") == [both[1], both[1]]
    assert of_one_task([both, alone]) == [both[1], alone[0]]
    with pytest.raises(UsageError, match=r"no results of separation of all .*maps.parquet has localization"):
        of_one_task([both, alone], "separation")
