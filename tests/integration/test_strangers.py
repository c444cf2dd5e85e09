"""Models that the house has never seen, each a file of its own, go all the way without an edit elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cocktail.audio.class_spectra import CLASS_MEAN_BINARY, CLASS_MEAN_WIENER
from tests.made.corpora.toy_shards import make_toy_shards
from tests.made.results.systems import IDEAL_MASKS
from tests.services.checkout import PROJECT, Checkout, table_cells

pytestmark = pytest.mark.slow  # tests/tasks/test_strangers.py is the quick look

NAMES = ("filters", "bands", "colours", "seers")
FILES = {name: (PROJECT / "tests" / "made" / "strangers" / f"{name}.py").read_text() for name in NAMES}
TRAIN = """
import importlib, sys
from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.config.mixing import Mixing
from cocktail.config.resources import Resources
from cocktail.config.training import Training
from pipelines.experiments.run import run

for name in sys.argv[2:]:
    run(
        Experiment(
            name=name,
            run_name=name,
            model=importlib.import_module(f"cocktail.models.{name}").StrangerConfig(),
            mixing=Mixing(
                sample_rate_hz=1000, segment_samples=4095, window_shards=2, pictures_per_source=1, picture_side=32
            ),
            training=Training(max_steps=6, batch_size=4, optimizer="adamw", learning_rate=0.01, lr_drop_epochs=()),
            evaluation=Evaluation(num_mixtures=4, batch_size=2, num_examples=1, num_looks=0),
            resources=Resources(gpu="no", executor="inline"),
            data=sys.argv[1],
        )
    )
    print(f"done: {name}")
"""
LOAD = """
import json, sys
import mlflow, numpy as np

mlflow.set_tracking_uri(sys.argv[1])
random = np.random.default_rng(0)
mixture = random.uniform(-0.5, 0.5, (1, 4095)).astype(np.float32)
pictures = random.integers(0, 255, (1, 2, 32, 32, 3), dtype=np.uint8)
shapes = {}
for name in sys.argv[2:]:
    model = mlflow.pyfunc.load_model(f"models:/{name}/1")
    needs = model.metadata.get_input_schema().input_names()
    given = {"mixture": mixture, "pictures": pictures} if "pictures" in needs else mixture
    asked = {"num_sources": 2} if name == "bands" else {"classes": ["lute", "bell"]}
    answers = model.predict(given, params=asked)
    answers = answers if isinstance(answers, dict) else {"estimates": answers}
    shapes[name] = {key: list(value.shape) for key, value in answers.items()}
    assert all(np.isfinite(value).all() for value in answers.values())
print(json.dumps(shapes))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Checkout, dict[str, str]]:
    """A checkout in which all of them were trained and scored, and what each run printed."""
    folder = tmp_path_factory.mktemp("strangers")
    make_toy_shards(folder / "shards", with_pictures=True)
    models = {f"platform/cocktail/models/{name}.py": text for name, text in FILES.items()}
    (folder / "checkout").mkdir()
    checkout = Checkout.of(folder / "checkout", {**models, "train.py": TRAIN, "load.py": LOAD})
    printed = checkout.run("train.py", folder / "shards", *NAMES)
    parts: dict[str, str] = dict(zip(NAMES, printed.split("done: ")[: len(NAMES)], strict=True))
    return checkout, parts


def test_each_is_a_file_of_under_sixty_lines():
    assert all(len(text.splitlines()) < 60 for text in FILES.values())


@pytest.mark.parametrize("name", NAMES)
def test_it_is_scored_beside_the_controls_and_reported(trained, name):
    checkout, printed = trained
    cells = table_cells(printed[name].partition("## Localization")[0], 1)
    systems = {"mixture", name, *IDEAL_MASKS, CLASS_MEAN_BINARY, CLASS_MEAN_WIENER}
    assert systems <= cells.keys()
    assert all(np.isfinite(float(cells[system])) for system in systems)
    assert f"models:/{name}/1" in printed[name]
    examples = next((checkout.output / "artifacts").rglob(f"{name}*"), None)
    assert (checkout.output / "runs" / name / "finished.json").exists(), examples


def test_what_has_no_weights_was_not_trained(trained):
    checkout, printed = trained
    (checkpoint,) = (checkout.output / "runs" / "bands" / "checkpoints").iterdir()
    assert checkpoint.name == "step-00000000"
    assert "training on" not in printed["bands"]


def test_who_separates_and_localizes_is_scored_on_both(trained):
    _, printed = trained
    separation, _, localization = printed["seers"].partition("## Localization")
    assert "seers" in table_cells(separation, 1) and "seers" in table_cells(localization, 1)
    assert "constant map" in table_cells(localization, 1)


def test_two_of_them_are_compared_and_a_checkpoint_is_scored_again(trained, tmp_path):
    checkout, _ = trained
    text = checkout.run("jobs/compare.py", "filters", "colours", "--into", tmp_path / "compared")
    assert "4 mixtures are in both" in text and "No pictures and sounds" not in text
    assert (tmp_path / "compared" / "compare.png").exists()
    finished = json.loads((checkout.output / "runs" / "bands" / "finished.json").read_text())
    again = checkout.run("jobs/evaluate.py", finished["checkpoint"], "--evaluation.num-mixtures", "3")
    assert "bands" in table_cells(again, 1)


def test_mlflow_loads_all_of_them(trained):
    checkout, _ = trained
    uri = f"sqlite:///{Path(checkout.output) / 'mlflow.db'}"
    shapes = json.loads(checkout.run("load.py", uri, *NAMES).splitlines()[-1])
    assert shapes == {
        "filters": {"estimates": [1, 2, 4095]},
        "bands": {"estimates": [1, 2, 4095]},
        "colours": {"estimates": [1, 2, 4095]},
        "seers": {"estimates": [1, 2, 4095], "maps": [1, 2, 32, 64]},
    }
