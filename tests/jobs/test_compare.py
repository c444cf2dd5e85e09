"""jobs/compare.py compares files of results, MLflow runs, and two systems of one run."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from mlflow.tracking import MlflowClient

from cocktail.checkpoints.store import CheckpointStore
from cocktail.config.evaluation import Evaluation
from cocktail.config.settings import flatten
from cocktail.inference.trained import about
from cocktail.tracking.find import find_run
from cocktail.tracking.run import TrackedRun
from cocktail.types import UsageError
from jobs import compare
from pipelines.plans.plan import plan_test
from pipelines.plans.pool import usable_clips
from pipelines.plans.rows import plan_hash
from pipelines.shards.manifest import Manifest
from tests.made.corpora.toy_shards import CLASSES, RATE, make_toy_shards
from tests.made.models.small_experiment import SMALL
from tests.made.results.scored_runs import results
from tests.services.jobs import run_job


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    return make_toy_shards(tmp_path_factory.mktemp("toy") / "shards")


@pytest.fixture(scope="module")
def test_list(manifest) -> pa.Table:
    return plan_test(usable_clips(manifest, SMALL.mixing, "test"), Evaluation(num_mixtures=3))


@pytest.fixture(scope="module")
def output(manifest, test_list, tmp_path_factory) -> Path:
    """An MLflow database with a run of a checkpoint that is there, and another of a checkpoint that is gone."""
    output = tmp_path_factory.mktemp("output")
    store = CheckpointStore(str(output / "checkpoints"), about=about(SMALL, CLASSES, manifest.folder))
    checkpoint = store.save(1, {"model": SMALL.model.build(len(CLASSES)).state_dict()}, {}, keep=1)
    names, class_ids = test_list["mixture_id"].to_pylist(), test_list["class_id"].to_pylist()
    for run, location, model_scores in (("first", checkpoint, [4.0, 6.0, 1.0]), ("second", "gone", [1.0, 2.0, 3.0])):
        tracked = TrackedRun.open(
            uri(output), str(output / "artifacts"), experiment="small", name=run, key=run,
            params=flatten({"mixing": vars(SMALL.mixing), "evaluation": vars(SMALL.evaluation)}),
        )  # fmt: skip
        systems = {"mixture": [0.0] * 3, "small": model_scores, "small, soft masks": [5.0, 5.0, 5.0]}
        folder = output / run
        folder.mkdir()
        pq.write_table(results(systems, names, class_ids), folder / "results.parquet")
        pq.write_table(test_list, folder / "test_list.parquet")
        tracked.store(folder)
        hashes = {"manifest_hash": manifest.root_hash, "test_list_hash": plan_hash(test_list)}
        tracked.tag({"data": manifest.folder, "checkpoint": location, **hashes})
    return output


def uri(output: Path) -> str:
    return f"sqlite:///{output}/mlflow.db"


def compare_here(monkeypatch, *arguments: str) -> None:
    """The job in this process, its errors as they are."""
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments])
    compare.main()


def test_two_files_of_results_are_compared_on_what_both_hold(tmp_path):
    names, class_ids = [f"{n:016x}" for n in range(3)], [[0, 1]] * 3
    (tmp_path / "b").mkdir()
    pq.write_table(results({"mixture": [0, 0, 0], "a": [3, 5, 50]}, names, class_ids), tmp_path / "a.parquet")
    pq.write_table(results({"b": [1, 9]}, names[:2], class_ids), tmp_path / "b" / "results.parquet")
    done = run_job("compare", "a.parquet", "b", "--into", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "compare.md").read_text()
    assert text.strip() in done.stdout
    assert "2 mixtures are in both, 1 only in A, 0 only in B." in text
    line = next(line for line in text.splitlines() if line.startswith("| SI-SDRi "))
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "SI-SDRi", "4.00", "5.00", "-1.00", "too few recordings", "50%", "2", "4",
    ]  # fmt: skip
    assert f"python jobs/replay.py SHARDS {names[0]} {names[1]} --checkpoint CHECKPOINT" in text
    differences = pq.read_table(tmp_path / "out" / "differences.parquet")
    assert differences["mixture_id"].to_pylist() == names[:2]
    assert differences["sdr_difference"].to_pylist() == [2.0, -4.0]
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_two_runs_are_found_in_mlflow_and_what_can_be_shown_of_them_is(output, manifest, test_list, tmp_path):
    names = test_list["mixture_id"].to_pylist()
    options = ["--tracking-uri", uri(output), "--examples", "1"]
    done = run_job("compare", "first", "second", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "compared" / "compare.md").read_text()
    assert "3 mixtures are in both, 0 only in A, 0 only in B." in text
    assert "| 3.67 | 2.00 | +1.67 |" in text
    classes = [" + ".join(CLASSES[class_id] for class_id in ids) for ids in test_list["class_id"].to_pylist()]
    assert f"| {names[1]} | {classes[1]} | 6.00 | 2.00 | +4.00 | A: [picture](examples-a/{names[1]}.png)" in text
    assert f"| {names[2]} | {classes[2]} | 1.00 | 3.00 | -2.00 | A: [picture](examples-a/{names[2]}.png)" in text
    assert "No pictures and sounds of B: gone is not a checkpoint" in text
    assert f"replay.py {manifest.folder} {names[1]} {names[2]} --checkpoint {output}/checkpoints/step-" in text
    folder = tmp_path / "compared" / "examples-a"
    for name in names[1:]:
        assert (folder / f"{name}.png").exists()
        sound, rate = soundfile.read(folder / name / "mixture.wav")
        assert rate == RATE
        assert len(sound) > 3000


def test_two_systems_of_one_run_are_compared(output, tmp_path, monkeypatch):
    options = ["--systems", "own", "small, soft masks", "--tracking-uri", uri(output), "--examples", "0"]
    compare_here(monkeypatch, "first", "first", *options, "--into", str(tmp_path))
    text = (tmp_path / "compare.md").read_text()
    assert text.startswith("# small against small, soft masks\n")
    assert "| 3.67 | 5.00 | -1.33 |" in text


def test_three_runs_are_compared_with_the_first_on_the_mixtures_that_all_have(output, test_list, tmp_path, monkeypatch):
    names, class_ids = test_list["mixture_id"].to_pylist(), test_list["class_id"].to_pylist()
    (tmp_path / "third").mkdir()
    pq.write_table(results({"b": [9.0, 0.0]}, names[:2], class_ids[:2]), tmp_path / "third" / "results.parquet")
    options = ["--tracking-uri", uri(output), "--examples", "0", "--into", str(tmp_path / "out")]
    compare_here(monkeypatch, "first", "second", str(tmp_path / "third"), *options)
    text = (tmp_path / "out" / "compare.md").read_text()
    assert text.startswith("# 3 systems\n")
    assert "2 mixtures are in all of them" in text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert rows[0][:5] == ["", "system", "SDR", "less A", "95 % interval, by recording"]
    # Of the two mixtures: 4 and 6, 1 and 2, 9 and 0.
    assert [row[:4] for row in rows[2:]] == [
        ["A", "small", "5.00", ""],
        ["B", "small", "1.50", "-3.50"],
        ["C", "b", "4.50", "-0.50"],
    ]
    assert [row[5] for row in rows[2:]] == ["", "0%", "50%"]
    assert [row[8] for row in rows[3:]] == ["[compare.md](a-b/compare.md)", "[compare.md](a-c/compare.md)"]
    pair = (tmp_path / "out" / "a-c" / "compare.md").read_text()
    assert pair.startswith("# small against b\n") and "2 mixtures are in both, 0 only in A, 0 only in B." in pair
    assert (tmp_path / "out" / "a-b" / "compare.png").exists()


def test_a_registered_model_stands_for_the_run_that_made_it(output, tmp_path, monkeypatch):
    client = MlflowClient(uri(output))
    client.create_registered_model("small")
    run = find_run(uri(output), "second")
    client.create_model_version("small", run.artifacts, run_id=run.run_id)
    client.set_registered_model_alias("small", "best", "1")
    options = ["--tracking-uri", uri(output), "--examples", "0", "--into", str(tmp_path)]
    compare_here(monkeypatch, "first", "models:/small@best", *options)
    assert "| 3.67 | 2.00 | +1.67 |" in (tmp_path / "compare.md").read_text()


def test_one_run_alone_or_systems_for_other_runs_are_refused(output, monkeypatch):
    with pytest.raises(UsageError, match="give two runs or more, 26 at most, not 1"):
        compare_here(monkeypatch, "first", "--tracking-uri", uri(output))
    with pytest.raises(UsageError, match="--systems names 1 systems of 2 runs"):
        compare_here(monkeypatch, "first", "second", "--tracking-uri", uri(output), "--systems", "small")


def test_shards_that_have_moved_are_given_and_others_are_told_apart(output, manifest, tmp_path, monkeypatch):
    options = ["--tracking-uri", uri(output), "--examples", "1", "--into", str(tmp_path / "out")]
    others = make_toy_shards(tmp_path / "others", num_test=5)
    compare_here(monkeypatch, "first", "second", *options, "--data", others.folder)
    told = (tmp_path / "out" / "compare.md").read_text()
    assert f"No pictures and sounds of A: {others.folder} holds other data than first was scored on" in told
    compare_here(monkeypatch, "first", "second", *options, "--data", str(tmp_path / "absent"))
    told = (tmp_path / "out" / "compare.md").read_text()
    assert f"No pictures and sounds of A: no shards at {tmp_path}/absent" in told
    assert not (tmp_path / "out" / "examples-a").exists()


def test_runs_of_other_test_lists_are_refused_with_both_hashes(output, test_list, tmp_path, monkeypatch):
    pq.write_table(results({"x": [1.0]}, ["0" * 16], [[0, 1]]), tmp_path / "results.parquet")
    with pytest.raises(UsageError, match=f"test_list_hash: first has {plan_hash(test_list)}, .*has an unknown one"):
        compare_here(monkeypatch, "first", str(tmp_path), "--tracking-uri", uri(output))


def test_what_is_neither_a_file_nor_a_run_is_refused_and_nothing_is_written(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no run has the name or id third"):
        compare_here(monkeypatch, "third", "first", "--tracking-uri", uri(output))
    with pytest.raises(UsageError, match=r"there is no .*third.parquet: give an MLflow run, or a file of results"):
        compare_here(monkeypatch, "third.parquet", "first", "--tracking-uri", uri(output))
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_results_is_refused_with_its_state(output, tmp_path, monkeypatch):
    unfinished = TrackedRun.open(
        uri(output), str(output / "artifacts"), experiment="small", name="unfinished", key="", params={}
    )
    with pytest.raises(UsageError, match=f"unfinished \\({unfinished.run_id}, RUNNING\\) has no results.parquet"):
        compare_here(monkeypatch, "unfinished", "first", "--tracking-uri", uri(output), "--into", str(tmp_path))
