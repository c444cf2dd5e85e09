"""jobs/replay.py builds the mixtures of ids and rows again; jobs/freeze_test_list.py freezes them."""

import json

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from cocktail.audio.mixing import mix
from cocktail.checkpoints.store import CheckpointStore
from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.replay import find_mixtures
from pipelines.plans.plan import plan_epoch, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_shards import RATE, make_toy_shards
from tests.services.jobs import run_job

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, pictures_per_source=1, picture_side=16)
OPTIONS = ["--mixing.sample-rate-hz", "1000", "--mixing.segment-samples", "2000", "--mixing.pictures-per-source", "1"]
OPTIONS += ["--mixing.picture-side", "16", "--evaluation.num-mixtures", "10"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"), with_pictures=True)


def test_ids_and_rows_become_the_samples_that_a_network_gets(manifest, tmp_path):
    pool = usable_clips(manifest, MIXING, "train")
    plan = plan_epoch(pool, seed=4, epoch=2)
    of_an_epoch, of_the_test = plan["mixture_id"][17].as_py(), None
    test_plan = plan_test(usable_clips(manifest, MIXING, "test"), Evaluation(num_mixtures=10))
    of_the_test = test_plan["mixture_id"][5].as_py()
    done = run_job("replay", manifest.folder, of_an_epoch, of_the_test, "1:3", "--seed", "4", *OPTIONS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    third = plan_epoch(pool, seed=4, epoch=1)["mixture_id"][3].as_py()
    assert done.stdout.split() == [f"replayed/{name}" for name in (of_an_epoch, of_the_test, third)]
    batch = read_mixtures(plan.slice(17, 1), ClipSource.of(manifest), MIXING)
    mixture, references = mix(batch)
    folder = tmp_path / "replayed" / of_an_epoch
    row = json.loads((folder / "row.json").read_text())
    assert row["clip_id"] == plan["clip_id"][17].as_py()
    assert row["class_names"] == [manifest.classes[class_id] for class_id in row["class_id"]]
    sounds, rate = soundfile.read(folder / "mixture.wav", dtype="float32")
    assert rate == RATE
    assert torch.equal(torch.from_numpy(sounds), mixture[0])
    for n, class_id in enumerate(row["class_id"]):
        stem = f"source-{n}-{manifest.classes[class_id]}"
        source, _ = soundfile.read(folder / f"{stem}.wav", dtype="float32")
        assert torch.equal(torch.from_numpy(source), references[0, n])
        assert batch.pictures is not None
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{stem}-0.png")), batch.pictures[0, n, 0])


def test_a_checkpoint_tells_the_settings(manifest, tmp_path):
    settings = {f"mixing.{name}": value for name, value in vars(MIXING).items()}
    settings |= {
        "seed": 9,
        "training.split": "train",
        "evaluation.num_mixtures": 10,
        "evaluation.seed": 1,
    }
    store = CheckpointStore(str(tmp_path / "checkpoints"), about={"settings": settings})
    checkpoint = store.save(1, {}, {}, keep=1)
    wanted = plan_epoch(usable_clips(manifest, MIXING, "train"), seed=9, epoch=0)["mixture_id"][0].as_py()
    done = run_job("replay", manifest.folder, wanted, "--checkpoint", checkpoint, cwd=tmp_path)
    assert done.stdout.split() == [f"replayed/{wanted}"], done.stderr


def test_names_that_cannot_be_found_say_where_they_were_sought(manifest):
    def find(name, test_split="test"):
        return find_mixtures(
            [name], manifest, MIXING, Evaluation(num_mixtures=5, split=test_split), split="train", seed=0, epochs=3
        )

    with pytest.raises(UsageError, match=r"0123456789abcdef: not in the test mixtures of split test, nor in epochs 0 "):
        find("0123456789abcdef")
    with pytest.raises(UsageError, match="0123456789abcdef: not in epochs 0 to 2 of split train with seed 0"):
        find("0123456789abcdef", test_split="eval")
    with pytest.raises(UsageError, match="nonsense is neither a mixture id, 16 hexadecimal digits, nor EPOCH:ROW"):
        find("nonsense")
    with pytest.raises(UsageError, match="0:40: an epoch has 40 rows, from 0 on"):
        find("0:40")
    assert find("0:39", test_split="eval")["0:39"].num_rows == 1


def test_a_list_is_frozen_and_its_mixtures_can_be_replayed(manifest, tmp_path):
    frozen = run_job("freeze_test_list", manifest.folder, "list.parquet", *OPTIONS, cwd=tmp_path)
    assert frozen.returncode == 0, frozen.stderr
    assert "test: 6 clips of 5 classes\n10 mixtures in " in frozen.stdout
    wanted = plan_test(usable_clips(manifest, MIXING, "test"), Evaluation(num_mixtures=10))["mixture_id"][9].as_py()
    done = run_job("replay", manifest.folder, wanted, "--evaluation.test-list", "list.parquet", *OPTIONS, cwd=tmp_path)
    assert done.stdout.split() == [f"replayed/{wanted}"], done.stderr
