"""What a model is for, and how its answers on a batch become rows of results."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cocktail.audio.mixing import mix
from cocktail.config.evaluation import Evaluation
from cocktail.tasks.choice import task_of_results, tasks_of
from cocktail.tasks.localization.results import LOCALIZATION_RESULTS
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.localization.task import Localizing
from cocktail.tasks.rows import systems_of
from cocktail.tasks.separation.task import Separating
from cocktail.types import Localization, MixtureBatch, Query, UsageError
from tests.made.corpora.shapes_and_tones import SIDE, scenes
from tests.made.models.both_tasks import Both
from tests.made.models.small_avgn import MIXING, SMALL, C
from tests.made.models.small_sgn import SMALL as SMALL_SGN
from tests.made.models.small_sgn import tones
from tests.made.results.localized_results import mixture, source
from tests.made.results.localized_results import table as localized
from tests.made.results.scored_runs import results
from tests.made.results.systems import IDEAL_MASKS


class Knowing:
    """Knows where things are, for it is told: its maps are the truth of the classes that it is asked for."""

    def __init__(self, batch: MixtureBatch) -> None:
        self.batch = batch
        self.asked: list[tuple[int, ...]] = []

    def localize(self, mixture, query):
        pictures, class_ids = query.shown[:, :, 0], query.named
        self.asked.append(tuple(pictures.shape[:2]))
        assert self.batch.truth is not None
        maps = torch.zeros(*class_ids.shape, SIDE, pictures.shape[1] * SIDE)
        for b, picture in enumerate(pictures):
            assert self.batch.pictures is not None
            whole = self.batch.pictures[:, : class_ids.shape[1], 0]
            row = next(i for i in range(len(whole)) if whole[i].equal(picture))
            for n in range(class_ids.shape[1]):
                maps[b, n, :, n * SIDE : (n + 1) * SIDE] = self.batch.truth[row, n]
        return Localization(maps=maps, class_ids=class_ids)


def test_a_model_is_for_what_it_can_do():
    evaluation = Evaluation(peak_share=0.3, fixed_threshold=0.2, metrics="reference")
    localizing = Localizing(rules=ScoringRules(peak_share=0.3, fixed_threshold=0.2))
    separating = Separating(metrics="reference", by_fuss_rule=True)
    assert tasks_of(SMALL.build(C), evaluation, MIXING) == (localizing,)
    assert tasks_of(SMALL_SGN.build(C), evaluation, MIXING, True) == (separating,)


def test_a_model_that_can_do_several_tasks_is_tested_on_those_that_the_mixtures_can_test():
    both, evaluation = Both(), Evaluation()
    assert [task.name for task in tasks_of(both, evaluation, MIXING)] == ["separation", "localization"]
    unseen, whole = replace(MIXING, pictures_per_source=0), replace(MIXING, arrangement="whole")
    assert tasks_of(both, evaluation, unseen) == (Separating(),)
    assert tasks_of(both, evaluation, whole) == (Localizing(),)
    with pytest.raises(UsageError, match="a Both does nothing that such mixtures test: separating takes a reference"):
        tasks_of(both, evaluation, replace(whole, pictures_per_source=0))


@pytest.mark.parametrize("table", [localized(mixture("a", source(0.5))), results({"m": [1.0]}, ["a"], [[0, 1]])])
def test_a_table_names_its_task_and_one_that_does_not_is_refused_with_what_to_do(table):
    assert task_of_results(table).scoreboard(table).task == task_of_results(table).name
    for old in (table.replace_schema_metadata(None), table.drop_columns(["kind"])):
        with pytest.raises(UsageError, match=r"no table of results of this version.*again with jobs/evaluate\.py"):
            task_of_results(old)


def test_a_model_without_parameters_is_asked_where_the_batch_lies(batch):
    separated = Separating().apply("both", Both(), batch)
    assert [system.name for system in separated.systems] == ["both", *IDEAL_MASKS, "mixture"]
    table = Separating().score(separated)
    assert Separating().is_scored(table).all() and systems_of(table, "model") == ["both"]


def test_estimates_that_are_shorter_than_what_ideal_masks_give_cut_everything(batch):
    separated = Separating().apply("both", Both(missing=700), batch)
    T = batch.sources.shape[-1] - 700
    lengths = {system.estimates.shape[-1] for system in separated.systems}
    assert lengths == {separated.mixture.shape[-1]} == {separated.references.shape[-1]} == {T}


@pytest.fixture
def batch() -> MixtureBatch:
    """One source, two, one."""
    found = scenes([[0, 1], [2, 3], [4, 1]])
    present = torch.tensor([[True, False], [True, True], [True, False]])
    assert found.truth is not None and found.has_truth is not None
    return MixtureBatch(
        **{
            **vars(found),
            "present": present,
            "class_ids": found.class_ids.where(present, -1),
            "truth": found.truth & present[..., None, None],
            "has_truth": present.clone(),
        }
    )


def test_mixtures_of_each_number_of_sources_are_localized_in_as_many_pictures(batch):
    model = Knowing(batch)
    rows = Localizing().apply("it", model, batch)
    assert model.asked == [(2, 1), (1, 2)]
    assert rows.schema == LOCALIZATION_RESULTS
    own = [row for row in rows.to_pylist() if row["system"] == "it"]
    assert {(row["mixture_id"], row["source"], row["num_sources"]) for row in own} == {
        ("0", 0, 1),
        ("2", 0, 1),
        ("1", 0, 2),
        ("1", 1, 2),
    }
    assert all(row["ap"] == 1 and row["iou_peak"] == 1 for row in own)


def test_what_has_no_truth_is_not_scored_and_said_why(batch):
    assert batch.has_truth is not None
    batch.has_truth[1, 1] = False
    task = Localizing()
    rows = task.apply("it", Knowing(batch), batch)
    scored = task.is_scored(rows)
    names = np.array(rows["mixture_id"].to_pylist())
    assert scored[names == "0"].all() and not scored[(names == "1") & (np.array(rows["source"].to_pylist()) == 1)].any()
    assert task.why_not(rows) == "1 sources with no truth"


def test_each_source_is_said_to_be_of_its_recording_whatever_the_task(batch):
    recordings = (("a", ""), ("b", "c"), ("a", ""))
    told = replace(batch, recordings=recordings)
    expected = {("0", 0): "a", ("1", 0): "b", ("1", 1): "c", ("2", 0): "a"}
    model = Both()
    for task in (Localizing(), Separating()):
        asked = Knowing(batch) if task.name == "localization" else model
        for mixtures, known in ((told, expected), (batch, dict.fromkeys(expected))):
            rows = task.score(task.apply("it", asked, mixtures)).to_pylist()
            for system in {row["system"] for row in rows}:
                own = {(row["mixture_id"], row["source"]): row["recording"] for row in rows if row["system"] == system}
                assert own == known


def test_a_model_that_names_no_class_is_not_asked_by_names():
    batch = tones([[0, 3], [2, 1]])
    sounds, _ = mix(batch)
    slots = replace(SMALL_SGN, source_vectors="pooled_slots").build(5).eval()
    with pytest.raises(UsageError, match="cannot say which source is of which class"):
        Separating().answer(slots, sounds, Query.naming(batch.class_ids))
    assert Separating().answer(slots, sounds, Query.blind(torch.tensor([2, 2]))).shape[:2] == (2, 2)
    named = Separating().answer(SMALL_SGN.build(5).eval(), sounds, Query.naming(batch.class_ids))
    assert named.shape[:2] == (2, 2)
