"""What jobs do with a trained model."""

import re
import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cocktail.checkpoints.store import CheckpointStore
from cocktail.config.evaluation import Evaluation
from cocktail.inference.trained import Trained
from cocktail.layers.two_towers import SingleMapLocalizer
from cocktail.models.cosegmentation import SMALL_COSEGMENTATION
from cocktail.studies.scored_run import ScoredRun
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.localization.task import Localizing
from cocktail.tasks.report import Subject
from cocktail.tasks.separation import report
from cocktail.tasks.separation.report import Summaries, metrics_of, tables_by_number
from cocktail.tasks.separation.results import RESULTS
from cocktail.tasks.separation.task import Separating
from cocktail.tracking import lease as leases
from cocktail.types import UsageError
from jobs.compare_localizers import SYSTEMS as LOCALIZERS
from pipelines.datasets.index import IndexRow, make_index
from pipelines.experiments import evaluation_run
from pipelines.experiments.benchmarks import SEPARATE_MUSDB18
from pipelines.experiments.evaluation_run import score_and_track
from pipelines.experiments.scoring import Scoring, new_classes_for, require_truth
from pipelines.experiments.trained_on import Overlap
from pipelines.plans import evaluation as evaluations
from pipelines.plans.evaluation import in_classes_of, make_test_list
from tests.made.corpora.toy_shards import CLASSES, RATE, make_toy_shards, toy_clip, toy_row, write_shards
from tests.made.models.left_half import LeftHalf
from tests.made.models.small_experiment import SMALL
from tests.made.results.localized_results import mixture, source
from tests.made.results.localized_results import table as localized
from tests.made.results.systems import columns_of
from tests.services.other_process import other_holder


def trained(classes: tuple[str, ...]) -> Trained:
    return Trained(
        name="x",
        config=SMALL.model,
        settings={},
        model=None,
        mixing=SMALL.mixing,
        evaluation=Evaluation(),
        classes=classes,
        data="/elsewhere",
    )


def test_test_mixtures_get_the_models_class_ids_by_name(tmp_path):
    manifest = make_toy_shards(tmp_path)
    mixtures = make_test_list(manifest, SMALL.mixing, SMALL.evaluation)
    others = ("anvil", *reversed(CLASSES))
    mapped = in_classes_of(others, manifest, mixtures)
    for own, model in zip(mixtures["class_id"].to_pylist(), mapped["class_id"].to_pylist(), strict=True):
        assert [manifest.classes[class_id] for class_id in own] == [others[class_id] for class_id in model]
    assert mapped.drop_columns("class_id").equals(mixtures.drop_columns("class_id"))


def places(boxes: list, masks: list) -> pa.Table:
    """Two test mixtures of one clip each, with what was said of where its source is."""
    kind = pa.list_(pa.list_(pa.int32()))
    return pa.table({"boxes": pa.array(boxes, kind), "mask_offset": pa.array(masks, pa.list_(pa.int64()))})


def test_only_maps_are_scored_without_which_nobody_said_where_the_sources_are(tmp_path):
    manifest = make_toy_shards(tmp_path)
    nobody = places([[None], [None]], [[None], [None]])
    with pytest.raises(UsageError, match=r"nobody said where .* in the 2 test mixtures of .*--evaluation\.data"):
        require_truth([Localizing()], nobody, manifest)
    with pytest.raises(UsageError, match="nobody said"):
        require_truth([Localizing()], nobody.select([]), manifest)
    require_truth([Localizing(), Separating()], nobody, manifest)
    require_truth([Separating()], nobody, manifest)
    require_truth([Localizing()], places([[None], [[]]], [[None], [None]]), manifest)  # somebody looked: none is left
    require_truth([Localizing()], places([[None], [None]], [[None], [7]]), manifest)


def test_a_split_without_a_test_mixture_is_refused(tmp_path, monkeypatch):
    manifest = make_toy_shards(tmp_path)
    plan = evaluations.plan_test
    monkeypatch.setattr(evaluations, "plan_test", lambda *given: plan(*given).slice(0, 0))
    with pytest.raises(UsageError, match=r"the split test of .* gives no mixture to test: set --evaluation\.split"):
        make_test_list(manifest, SMALL.mixing, SMALL.evaluation)


def test_classes_that_a_model_need_not_know_follow_its_own_and_are_told(tmp_path):
    manifest = make_toy_shards(tmp_path)
    test_list = make_test_list(manifest, SMALL.mixing, SMALL.evaluation)
    own = ("anvil", "harp")
    new = new_classes_for(SMALL_COSEGMENTATION, own, manifest, test_list)
    assert new == tuple(name for name in CLASSES if name != "harp")
    assert new_classes_for(SMALL.model, own, manifest, test_list) == (), "it finds sources by their class"
    mapped = in_classes_of((*own, *new), manifest, test_list)
    names = [[(*own, *new)[class_id] for class_id in row] for row in mapped["class_id"].to_pylist()]
    assert names == [[CLASSES[class_id] for class_id in row] for row in test_list["class_id"].to_pylist()]
    test = Scoring(
        checkpoint="",
        trained=trained(own),
        manifest=manifest,
        mixtures=mapped,
        new_classes=new,
        mixing=SMALL.mixing,
        evaluation=SMALL.evaluation,
        resources=SMALL.resources,
        overlap=Overlap(num_mixtures=len(mapped), num_held=0),
    )
    assert test.classes == (*own, *new)
    assert any("4 classes are tested that no training clip has" in note for note in test.notes)


def test_localizers_with_one_map_for_all_that_is_heard_are_tested_on_any_classes_and_those_with_a_map_a_class_are_not(
    tmp_path,
):
    manifest = make_toy_shards(tmp_path)
    test_list = make_test_list(manifest, SMALL.mixing, SMALL.evaluation)
    for system in LOCALIZERS.values():
        config = system.job.small
        one_map = isinstance(config.build(2), SingleMapLocalizer)
        new = new_classes_for(config, ("anvil", "harp"), manifest, test_list)
        assert new == (tuple(name for name in CLASSES if name != "harp") if one_map else ())


def test_classes_that_the_model_does_not_know_are_refused_by_name(tmp_path):
    manifest = make_toy_shards(tmp_path)
    mixtures = make_test_list(manifest, SMALL.mixing, SMALL.evaluation)
    with pytest.raises(UsageError, match=r"does not know 1 classes of .* among them drum"):
        in_classes_of(tuple(name for name in CLASSES if name != "drum"), manifest, mixtures)


def test_tables_and_metrics_keep_single_sources_apart():
    rows = [
        {"mixture_id": "a", **columns_of("m"), "source": n, "num_sources": 2, "class_id": n, "silent_estimate": False}
        | dict.fromkeys(("sdr", "sir", "sar", "si_sdr", "si_sdri"), 3.0)
        for n in range(2)
    ]
    alone = {
        "mixture_id": "b",
        **columns_of("m"),
        "source": 0,
        "num_sources": 1,
        "class_id": 0,
        "silent_estimate": False,
    }
    rows += [alone | dict.fromkeys(("sdr", "sar", "si_sdr"), 50.0)]
    results = pa.Table.from_pylist(rows, schema=RESULTS)
    one, two = tables_by_number(Summaries.of(results))
    assert one.startswith("Mixtures of 1 source:")
    assert "50.00" in one
    assert two.startswith("Mixtures of 2 sources:")
    assert "3.00" in two
    metrics = metrics_of(Summaries.of(results))
    assert (metrics["m/sdr"], metrics["m/num_mixtures"], metrics["m/num_sources"]) == (3.0, 1, 2)
    assert metrics_of(Summaries.of(results.slice(2)))["m/sdr"] == 50.0


def test_each_group_of_mixtures_and_each_system_is_summarised_once(monkeypatch):
    groups, systems = [], []
    summarise, fuss_report = report.summarise, report.fuss_report

    def count_group(results):
        groups.append(tuple(sorted(set(results["num_sources"].to_pylist()))))
        return summarise(results)

    def count_system(results, system):
        systems.append(system)
        return fuss_report(results, system)

    monkeypatch.setattr(report, "summarise", count_group)
    monkeypatch.setattr(report, "fuss_report", count_system)
    rows = [
        {"mixture_id": f"{N}", **columns_of(system), "source": n, "num_sources": N, "class_id": n, "sdr": 1.0}
        | {"silent_estimate": False}
        for system in ("m", "mixture")
        for N in (1, 2, 3)
        for n in range(N)
    ]
    for numbers, expected in (((1, 2, 3), [(1,), (2,), (3,), (2, 3)]), ((1, 2), [(1,), (2,)]), ((2,), [(2,)])):
        table = pa.Table.from_pylist([row for row in rows if row["num_sources"] in numbers], schema=RESULTS)
        with tempfile.TemporaryDirectory() as folder:
            report.separation_report(
                table, Subject(name="m", model=None, classes=CLASSES, sample_rate_hz=RATE), Path(folder)
            )
        assert (groups, systems) == (expected, ["m", "mixture"])
        groups.clear()
        systems.clear()


def one_map_scored(folder: Path, evaluation: Evaluation) -> tuple[Scoring, pa.Table, Any]:
    """A test of a mixture, its results, and a run that keeps what it is given in the folder."""
    test = Scoring(
        checkpoint=CheckpointStore(str(folder / "runs/small-1/checkpoints")).save(3, {"model": {}}, {}, keep=1),
        trained=replace(trained(CLASSES), name="model", model=LeftHalf()),
        manifest=make_toy_shards(folder / "shards", num_shards=1, clips_per_shard=1, num_test=1),
        mixtures=pa.table({"class_id": [[0]]}),
        mixing=replace(SMALL.mixing, pictures_per_source=1),
        evaluation=evaluation,
        resources=SMALL.resources,
        overlap=Overlap(num_mixtures=1, num_held=0),
    )
    tracked = SimpleNamespace(
        histories=lambda prefixes: {},
        store=lambda stored: shutil.copytree(stored, folder, dirs_exist_ok=True),
        log=lambda metrics, step: None,
        describe=lambda text: None,
        tags={"git_commit": "c0ffee", "mlflow.runName": "small-1"},
        run_id="1",
    )
    results = localized(mixture("a", source(0.5, iou=0.5), system="model")).cast(test.tasks[0].results)
    return test, results, tracked


def test_a_summary_that_fails_loses_nothing_of_a_finished_test(tmp_path, monkeypatch):
    test, results, tracked = one_map_scored(tmp_path, Evaluation())

    def fail(*_: Any) -> None:
        raise ValueError("a summary")

    monkeypatch.setattr(Localizing, "summary", fail)
    with pytest.raises(ValueError, match="a summary"):
        test.record((results,), tracked, 0)
    assert pq.read_table(tmp_path / "results.parquet").equals(results)
    assert pq.read_table(tmp_path / "test_list.parquet").equals(test.mixtures)


def test_stored_results_of_maps_say_by_what_rules_they_came_about(tmp_path):
    """So that the file alone can be compared."""
    evaluation = Evaluation(peak_share=0.2, single_threshold=0.3, fixed_threshold=1.5, num_examples=0)
    test, results, tracked = one_map_scored(tmp_path, evaluation)
    rules = ScoringRules.of(evaluation)
    test.report((results,), test.record((results,), tracked, 0), tracked, 0)
    assert ScoredRun.read(f"{tmp_path}/results.parquet").board.rules == rules
    page = (tmp_path / "report.html").read_text()
    facts = re.findall(r"<td>([^<]*)</td><td[^>]*><code>([^<]*)</code></td>", page)
    assert {"run": "small-1 (1)", "step": "3", "commit": "c0ffee"}.items() <= dict(facts).items()
    assert dict(facts)["checkpoint"] == test.checkpoint
    assert test.manifest.folder in dict(facts)["tested on"]


def test_an_evaluations_name_says_what_was_tested_on_what(tmp_path):
    test, _, _ = one_map_scored(tmp_path, Evaluation(num_sources=(1, 2)))
    assert test.in_short == f"small-1-step-3-on-{test.manifest.dataset}-test-1-2-sources"
    frozen = replace(test, evaluation=Evaluation(test_list="/lists/a.parquet"))
    assert frozen.in_short == f"small-1-step-3-on-{test.manifest.dataset}-frozen-list-2-sources"


def test_mixtures_that_the_model_cannot_separate_are_refused_before_anything_is_read(tmp_path):
    manifest = make_toy_shards(tmp_path)
    slots = replace(SMALL.model, source_vectors="pooled_slots")
    mixing = replace(SMALL.mixing, num_sources=3)
    with pytest.raises(UsageError, match="num_slots 2"):
        Scoring.of("", replace(trained(CLASSES), config=slots), manifest, mixing, SMALL.evaluation, SMALL.resources)


def test_a_model_is_not_tested_at_another_rate_than_it_was_trained_at_whatever_the_shards_hold(tmp_path):
    """SGN's frames are as many at any rate, so its own configuration sees nothing wrong."""
    audio = np.random.default_rng(0).integers(-9000, 9000, 10 * 2 * RATE).astype("<i2")
    samples = [(toy_row(n, "test", len(CLASSES)), toy_clip(audio, rate=2 * RATE)) for n in range(6)]
    faster = write_shards(tmp_path / "faster", {"test-00000": samples}, CLASSES, sample_rate_hz=2 * RATE)
    asked = (SMALL.evaluation, SMALL.resources)
    with pytest.raises(
        UsageError, match=rf"holds audio at {2 * RATE} Hz.* make the shards with --sample-rate-hz {RATE}"
    ):
        Scoring.of("", trained(CLASSES), faster, SMALL.mixing, *asked)
    mixing = replace(SMALL.mixing, sample_rate_hz=2 * RATE)
    SMALL.model.require_test_mixing(mixing)
    with pytest.raises(UsageError, match=rf"x was trained on sound at {RATE} Hz .* --sample-rate-hz {RATE}$"):
        Scoring.of("", trained(CLASSES), faster, mixing, *asked)


def test_the_musdb18_recipe_finds_its_test_mixtures(tmp_path):
    """50 songs of four stems, as MUSDB18's test set has."""
    stems = ("bass", "drums", "other", "vocals")
    audio = np.random.default_rng(0).integers(-9000, 9000, 20 * RATE).astype("<i2")
    samples = [
        (
            make_index(
                [
                    IndexRow(
                        clip_id=f"song{song}-{stem}",
                        recording=f"song{song}",
                        media_path="",
                        labels=(stem,),
                        split="test",
                        nominal_seconds=20.0,
                        group=f"song{song}",
                    )
                ],
                stems,
            ).to_pylist()[0],
            toy_clip(audio),
        )
        for song in range(50)
        for stem in stems
    ]
    manifest = write_shards(tmp_path, {"test-00000": samples}, stems)
    mixing = replace(SEPARATE_MUSDB18.mixing, sample_rate_hz=RATE, segment_samples=6 * RATE)
    for number in (2, 4):
        found = make_test_list(manifest, replace(mixing, num_sources=number), SEPARATE_MUSDB18.evaluation)
        assert len(found) == 1000


def test_an_evaluation_is_done_by_one_process_at_a_time_in_a_run_of_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "GOING_SECONDS", 0.0)
    opened: list[dict[str, Any]] = []
    stored = SimpleNamespace(
        closing=nullcontext,
        tag=lambda _: None,
        store_json=lambda *_: None,
        run_id="1",
        name="named",
        page="http://x/1",
        artifacts="there",
    )
    monkeypatch.setattr(evaluation_run.TrackedRun, "open", lambda *_, **given: opened.append(given) or stored)
    made: dict[str, Any] = {
        "require_place": None,
        "log_data": None,
        "test_demands": None,
        "uses_gpus": False,
        "environment": {},
        "provenance": {},
    }
    for name, value in {**made, "plan_hash": "plan", "state_hash": "state"}.items():
        monkeypatch.setattr(evaluation_run, name, lambda *_, value=value: value)
    told = SimpleNamespace(text="the table")
    test: Any = SimpleNamespace(
        checkpoint="/step-1",
        trained=trained(CLASSES),
        manifest=SimpleNamespace(folder="/shards"),
        mixtures=None,
        mixing=SMALL.mixing,
        evaluation=SMALL.evaluation,
        resources=SMALL.resources,
        tags={},
        precision={},
        score=tuple,
        in_short="small-1-step-1-on-toys",
        tested_on=None,
        record=lambda *_: told,
        report=lambda *_: told,
    )
    for output in ("a", "a", "b"):
        assert "the table" in score_and_track(test, "sqlite:///x.db", str(tmp_path / output))
    places = [given["place"] for given in opened]
    assert places[0] == places[1] != places[2], "two people of one server have a run each"
    assert opened[0]["name"] == f"small-1-step-1-on-toys-{opened[0]['key']}"
    folder = tmp_path / "a" / "evaluations" / f"evaluate-{opened[0]['key']}"
    with (
        other_holder(str(folder)) as pid,
        pytest.raises(UsageError, match=rf"evaluation evaluate-\w+ is being done by process {pid} .*another --output"),
    ):
        score_and_track(test, "sqlite:///x.db", str(tmp_path / "a"))
    assert len(opened) == 3
