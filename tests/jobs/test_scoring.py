"""What jobs do with a trained model."""

import pytest

from cocktail.config import Evaluation
from cocktail.evaluate import Trained
from cocktail.types import UsageError
from jobs.scoring import in_classes_of, make_test_list
from tests.integration.small_experiment import SMALL
from tests.toy_shards import CLASSES, make_toy_shards


def trained(classes: tuple[str, ...]) -> Trained:
    return Trained(
        name="x", model=None, mixing=SMALL.mixing, evaluation=Evaluation(), classes=classes, data="/elsewhere"
    )


def test_test_mixtures_get_the_models_class_ids_by_name(tmp_path):
    manifest = make_toy_shards(tmp_path)
    mixtures = make_test_list(manifest, SMALL.mixing, SMALL.evaluation)
    others = ("anvil", *reversed(CLASSES))
    mapped = in_classes_of(trained(others), manifest, mixtures)
    for own, model in zip(mixtures["class_id"].to_pylist(), mapped["class_id"].to_pylist(), strict=True):
        assert [manifest.classes[class_id] for class_id in own] == [others[class_id] for class_id in model]
    assert mapped.drop_columns("class_id").equals(mixtures.drop_columns("class_id"))


def test_classes_that_the_model_does_not_know_are_refused_by_name(tmp_path):
    manifest = make_toy_shards(tmp_path)
    mixtures = make_test_list(manifest, SMALL.mixing, SMALL.evaluation)
    with pytest.raises(UsageError, match=r"does not know 1 classes of .* among them drum"):
        in_classes_of(trained(tuple(name for name in CLASSES if name != "drum")), manifest, mixtures)
