"""What a model is for, and how its answers on a batch become rows of results."""

import numpy as np
import pytest
import torch

from cocktail.config.evaluation import Evaluation
from cocktail.tasks.choice import task_of
from cocktail.tasks.localization.results import LOCALIZATION_RESULTS
from cocktail.tasks.localization.task import Localizing
from cocktail.tasks.separation.task import Separating
from cocktail.types import Localization, MixtureBatch
from tests.made.shapes_and_tones import SIDE, scenes
from tests.made.small_avgn import SMALL, C
from tests.made.small_sgn import SMALL as SMALL_SGN


class Knowing:
    """Knows where things are, for it is told: its maps are the truth of the classes that it is asked for."""

    def __init__(self, batch: MixtureBatch) -> None:
        self.batch = batch
        self.asked: list[tuple[int, ...]] = []

    def parameters(self):
        yield torch.zeros(1)

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
    assert task_of(SMALL.build(C), evaluation, False) == Localizing(peak_share=0.3, fixed_threshold=0.2)
    assert task_of(SMALL_SGN.build(C), evaluation, True) == Separating(metrics="reference", by_fuss_rule=True)


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
