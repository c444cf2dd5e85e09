"""Test sets whose clips are single sources without partners, IS3 and Flickr-SoundNet, from their files to scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

from cocktail.audio.mixing import superpose
from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.models.ez_vsl import SMALL_EZ_VSL
from cocktail.tasks.localization.mixtures import LocalizedMixtures
from cocktail.tasks.localization.results import score_maps
from cocktail.types import Query, UsageError
from pipelines.datasets.flickr_soundnet import index_flickr_soundnet
from pipelines.datasets.is3 import index_is3
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION_OF_ONE
from pipelines.mixtures.batches import read_mixtures
from pipelines.plans.evaluation import make_test_list
from pipelines.shards.dataset import shard_dataset
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.plan import ShardSettings
from pipelines.shards.reader import ClipSource

RATE = 4000
VGGSOUND = LOCALIZATION_OF_ONE[0].paper("ez_vsl_vggsound", SMALL_EZ_VSL, ADAM)
MIXING = replace(
    VGGSOUND.mixing, sample_rate_hz=RATE, segment_samples=3 * RATE, picture_side=32, distinct_classes=False
)
SINGLE = replace(VGGSOUND.evaluation, pairs="drawn", num_sources=(1,))


def write(folder: Path, name: str, number: int, sounds: str, pictures: str) -> None:
    generator = np.random.default_rng(number)
    for each in (sounds, pictures):
        (folder / each).mkdir(exist_ok=True)
    wavfile.write(folder / sounds / f"{name}.wav", RATE, generator.integers(-9000, 9000, 5 * RATE).astype(np.int16))
    Image.fromarray(generator.integers(0, 256, (48, 48, 3), np.uint8)).save(folder / pictures / f"{name}.jpg")


def flickr_soundnet(folder: Path):
    people = "".join(
        f"<annotator><bbox><type>1</type><a>0</a><b>0</b><c>{end}</c><d>{end}</d></bbox></annotator>"
        for end in (96, 128)
    )
    (folder / "Annotations").mkdir()
    for number in range(3):
        write(folder, f"1000{number}", number, "audio", "frames")
        (folder / "Annotations" / f"1000{number}.xml").write_text(f"<annotation>{people}</annotation>")
    (folder / "flickr_test.csv").write_text("".join(f"1000{number}\n" for number in range(3)))
    return index_flickr_soundnet(str(folder), str(folder / "Annotations"), str(folder / "flickr_test.csv"))


def is3(folder: Path):
    names = ["accordion_baby_10467_accordion", "accordion_baby_10467_baby", "dog_baby_10468_dog"]
    for number, name in enumerate(names):
        write(folder, name, number, "audio_waw", "images")
    boxes = [{"image": f"x/{name}.jpg", "audio": f"x/{name}.wav", "gt_box": [0, 0, 112, 112]} for name in names]
    (folder / "IS3_annotation.json").write_text(json.dumps(boxes))
    return index_is3(str(folder))


@pytest.fixture(scope="module", params=[flickr_soundnet, is3])
def manifest(request, tmp_path_factory, local_ray) -> Manifest:
    folder = tmp_path_factory.mktemp(request.param.__name__)
    settings = ShardSettings(dataset=request.param.__name__, sample_rate_hz=RATE, num_frames=1)
    shard_dataset(request.param(folder), settings, str(folder / "shards"))
    return open_manifest(str(folder / "shards"))


def test_single_sources_are_scored_by_the_settings_that_the_page_names(manifest):
    """Nothing of Flickr-SoundNet has a class: classes need not be distinct."""
    test_list = make_test_list(manifest, MIXING, SINGLE)
    assert len(test_list) == 3
    batch = read_mixtures(test_list, ClipSource.of(manifest), SINGLE.test_mixing(MIXING))
    assert batch.truth is not None and batch.has_truth is not None and batch.has_truth.all()
    model = replace(SMALL_EZ_VSL, spectrum=PowerSpectrumConfig(sample_rate_hz=RATE)).build(3).eval()
    mixtures = LocalizedMixtures(
        mixture_ids=batch.mixture_ids,
        class_ids=batch.class_ids,
        truths=batch.truth,
        has_truth=batch.has_truth,
        num_pictures=1,
    )
    with torch.no_grad():
        scores = score_maps(mixtures, "EZ-VSL", model.localize(superpose(batch), Query.of(batch)))
    own = [row for row in scores.to_pylist() if row["system"] == "EZ-VSL"]
    assert len(own) == 3 and all(0 < row["ap"] < 1 for row in own)


def test_as_vgg_ss_is_tested_they_are_refused_with_what_to_set(manifest):
    with pytest.raises(UsageError, match=r"no official pairs .*: set --evaluation\.pairs drawn.*num-sources 1"):
        make_test_list(manifest, MIXING, VGGSOUND.evaluation)
