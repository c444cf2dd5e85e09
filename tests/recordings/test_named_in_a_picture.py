"""Classes that are named are separated out of one picture that shows them all, by a model that can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cocktail.config.evaluation import Evaluation
from cocktail.inference.loaded import LoadedModel
from cocktail.inference.mlflow_model import TrainedModel
from cocktail.inference.signature import signature_of
from cocktail.inference.trained import Trained
from cocktail.recordings.asking import Asked
from cocktail.recordings.sources import Choice
from cocktail.types import UsageError
from tests.made.models import small_cosegmentation, small_sound_of_pixels
from tests.media.test_recordings import make_video

CLASSES = ("bell", "drum", "horn", "saw", "wind")


def trained(config: Any) -> Trained:
    torch.manual_seed(0)
    return Trained(
        name="looking",
        config=config,
        settings={},
        model=config.build(len(CLASSES)).eval(),
        mixing=small_sound_of_pixels.MIXING,
        evaluation=Evaluation(),
        classes=CLASSES,
        data="",
    )


@pytest.fixture(scope="module")
def segmenting() -> Trained:
    return trained(small_cosegmentation.SMALL)


def test_what_a_model_can_do_is_found_by_asking_it(segmenting):
    assert Asked(segmenting, "cpu").names_in_one_picture
    for config in (small_cosegmentation.WHOLE_PICTURES, small_sound_of_pixels.SMALL):
        assert not Asked(trained(config), "cpu").names_in_one_picture


def test_a_video_is_separated_into_the_classes_that_are_named(segmenting, tmp_path: Path):
    video = tmp_path / "video.mp4"
    make_video(video, 3)
    model = LoadedModel(segmenting, device="cpu")
    found = model.separate(video, choice=Choice(classes=("saw", "bell")))
    turned = model.separate(video, choice=Choice(classes=("bell", "saw")))
    assert found.names == ("saw", "bell")
    np.testing.assert_allclose(turned.stems, found.stems[::-1], atol=1e-5)
    (alone,) = model.separate(video, choice=Choice(classes=("bell",))).stems
    np.testing.assert_allclose(alone, found.stems[1], atol=1e-5)
    others = model.separate(video, choice=Choice(classes=("drum", "horn")))
    assert np.abs(others.stems - found.stems).max() > 1e-3
    with pytest.raises(UsageError, match="looks at pictures: ask for a number of sources"):
        LoadedModel(trained(small_sound_of_pixels.SMALL), device="cpu").separate(
            video, choice=Choice(classes=("bell",))
        )


def test_a_registered_model_answers_for_the_names_that_it_is_given(segmenting):
    registered: Any = TrainedModel()
    registered.device, registered.trained, registered.tasks = "cpu", segmenting, segmenting.tasks
    registered.asked, registered.signature = Asked(segmenting, "cpu"), signature_of(segmenting)
    random = np.random.default_rng(0)
    length = small_sound_of_pixels.MIXING.segment_samples
    given = {
        "mixture": (0.1 * random.standard_normal((1, length))).astype(np.float32),
        "pictures": random.integers(0, 255, (1, 1, 64, 64, 3), dtype=np.uint8),
    }

    def stems(*names: str) -> np.ndarray:
        return registered.predict(None, given, {"classes": list(names)})["estimates"][0]

    found = stems("saw", "bell")
    np.testing.assert_allclose(stems("bell", "saw"), found[::-1], atol=1e-5)
    np.testing.assert_allclose(stems("bell"), found[1:], atol=1e-5)
    assert np.abs(stems("drum", "horn") - found).max() > 1e-3
