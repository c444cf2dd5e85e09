"""The jobs of models that localize are the papers' recipes, and differ in what they say that they differ in."""

import importlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.models.attention10k import SMALL_ATTENTION10K
from cocktail.models.avgn import SMALL_AVGN, AVGNConfig
from cocktail.models.dmc import SMALL_DMC
from cocktail.models.ez_vsl import SMALL_EZ_VSL, EZVSLConfig
from cocktail.models.lvs import SMALL_LVS
from cocktail.models.ots import SMALL_OTS
from cocktail.models.slavc import SMALL_SLAVC
from cocktail.types import NO_CLASS
from pipelines.experiments.benchmarks import ADAM, LOCALIZATION, LOCALIZATION_OF_ONE, LOCALIZE_MUSIC
from pipelines.experiments.planned import PlannedRun
from pipelines.mixtures.batches import read_mixtures
from pipelines.plans.evaluation import classes_without_clips, untaught_in_words
from pipelines.plans.plan import plan_epoch
from pipelines.plans.pool import usable_clips
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_duets import WHOLE, make_toy_duets
from tests.made.corpora.toy_shards import CLASSES, RATE, make_toy_shards
from tests.made.models.small_experiment import SMALL

AVGN = [benchmark.paper(f"avgn_{benchmark.word}", AVGNConfig(), ADAM) for benchmark in LOCALIZATION]
SINGLE = {
    "attention10k": SMALL_ATTENTION10K,
    "ots": SMALL_OTS,
    "dmc": SMALL_DMC,
    "lvs": SMALL_LVS,
    "slavc": SMALL_SLAVC,
}
"""The demo's networks of other localizers of single sources."""
EZ_VSL = [benchmark.paper(f"ez_vsl_{benchmark.word}", EZVSLConfig(), ADAM) for benchmark in LOCALIZATION_OF_ONE]


def test_training_is_the_papers():
    for paper in AVGN:
        training, mixing = paper.training, paper.mixing
        assert (training.epochs, training.batch_size, training.learning_rate) == (100, 128, 1e-4)
        assert (training.optimizer, training.weight_decay, training.lr_drop_epochs) == ("adamw", 0.0, ())
        assert mixing.segment_samples == 3 * mixing.sample_rate_hz == 66150
        assert (mixing.picture_side, mixing.pictures_per_source, mixing.min_gain, mixing.max_gain) == (224, 1, 1.0, 1.0)


def test_tests_are_those_of_tables_one_and_two():
    vggsound, instruments, music = (benchmark.evaluation for benchmark in LOCALIZATION)
    thresholds = [(test.single_threshold, test.multi_threshold) for test in (vggsound, instruments, music)]
    assert thresholds == [(0.5, 0.3), (0.3, 0.1), (0.5, 0.3)]
    assert vggsound.num_sources == instruments.num_sources == music.num_sources == (1, 2)
    assert vggsound.pairs == instruments.pairs == "official"
    assert (music.arrangement, music.crop) == ("whole", "annotated")
    assert music.test_mixing(LOCALIZE_MUSIC.mixing).clips_per_mixture == 1


def test_ez_vsl_is_trained_on_single_sources_and_otherwise_and_tested_as_avgn_is():
    for benchmark, ours, theirs in zip(LOCALIZATION, EZ_VSL, AVGN, strict=True):
        one, two = benchmark.demo(ours, SMALL_EZ_VSL), benchmark.demo(theirs, SMALL_AVGN)
        for mine, others in ((ours, theirs), (one, two)):
            assert (mine.mixing.num_sources, others.mixing.num_sources) == (1, 2)
            assert replace(mine.mixing, num_sources=2) == others.mixing
            for part in ("training", "evaluation", "seed"):
                assert getattr(mine, part) == getattr(others, part)


@pytest.mark.parametrize("name", SINGLE)
def test_other_localizers_of_single_sources_have_the_recipe_and_the_tests_of_ez_vsl(name):
    job = importlib.import_module(f"jobs.{name}").JOB
    small = SINGLE[name]
    assert job.name == name and job.benchmarks == LOCALIZATION_OF_ONE and type(job.model) is type(small)
    for benchmark, theirs in zip(LOCALIZATION_OF_ONE, EZ_VSL, strict=True):
        paper, demo = job.paper(benchmark), job.demo(benchmark)
        assert (paper.name, demo.name) == (f"{name}_{benchmark.word}", f"{name}_{benchmark.word}_demo")
        assert (paper.model, demo.model) == (type(small)(), small)
        for ours, other in ((paper, theirs), (demo, benchmark.demo(theirs, SMALL_EZ_VSL))):
            for part in ("training", "mixing", "evaluation", "seed"):
                assert getattr(ours, part) == getattr(other, part)
            ours.model.require_mixing(ours.mixing)
            ours.model.require_test_mixing(ours.evaluation.test_mixing(ours.mixing))


def test_networks_of_localizers_are_their_papers():
    for name, width, dilate in (
        ("attention10k", 512, False),
        ("ots", 128, True),
        ("dmc", 512, True),
        ("lvs", 512, True),
        ("slavc", 512, False),
    ):
        config = importlib.import_module(f"jobs.{name}").JOB.model
        assert (config.width, config.dilate, config.resnet_width, config.visual_stages) == (width, dilate, 64, 4)
        assert config.initial_weights == "auto"


def test_ez_vsl_learns_from_each_clip_by_itself_and_its_own_picture(tmp_path):
    manifest = make_toy_shards(tmp_path, with_pictures=True)
    size = {"sample_rate_hz": RATE, "segment_samples": 3000, "picture_side": 32, "window_shards": 2}
    mixing = replace(EZ_VSL[0].mixing, **size)
    plan = plan_epoch(usable_clips(manifest, mixing, "train"), seed=0, epoch=0)
    assert sorted(plan["clip_id"].to_pylist()) == [[f"clip{number:03d}"] for number in range(40)]
    batch = read_mixtures(plan.slice(0, 8), ClipSource.of(manifest), mixing)
    assert batch.pictures is not None
    assert batch.sources.shape[:2] == batch.pictures.shape[:2] == (8, 1)
    model = replace(SMALL_EZ_VSL, spectrum=PowerSpectrumConfig(sample_rate_hz=RATE)).build(len(CLASSES))
    loss = model(batch)["total"]
    loss.backward()
    assert 0 < loss.item() < float("inf")


@pytest.mark.parametrize("paper", [*AVGN, *EZ_VSL])
def test_what_the_model_cannot_take_is_refused_by_the_recipe(paper):
    paper.model.require_mixing(paper.mixing)
    paper.model.require_test_mixing(paper.evaluation.test_mixing(paper.mixing))


def test_classes_that_no_training_clip_has_are_named_with_their_test_mixtures(tmp_path):
    manifest = make_toy_shards(tmp_path, clips_per_shard=2, num_shards=1)
    pool = usable_clips(manifest, SMALL.mixing, "train")
    taught = np.unique(pool.class_id)
    assert len(taught) == 2
    other = next(class_id for class_id in range(len(CLASSES)) if class_id not in taught)
    plan = pa.table({"class_id": [[int(taught[0]), other], [int(taught[1])], [other, int(taught[1])]]})
    untaught = classes_without_clips(pool)
    assert set(untaught) == set(CLASSES) - {CLASSES[class_id] for class_id in taught}
    told = untaught_in_words(untaught, CLASSES, plan)
    assert told == f"1 classes are tested that no training clip has (test mixtures): {CLASSES[other]} (2)"
    assert untaught_in_words(untaught, CLASSES, plan.slice(1, 1)) is None


def test_duets_teach_both_of_their_classes(tmp_path):
    pool = usable_clips(make_toy_duets(tmp_path, "train"), WHOLE, "train")
    assert set(pool.class_id) == {NO_CLASS}
    assert set(classes_without_clips(pool)) == set(pool.manifest.classes) - {"bell", "drum", "harp", "horn"}


def test_training_looks_at_test_mixtures_as_they_are_tested(tmp_path, local_ray):
    """Training remixes solos; duets are tested as they are, with one picture of both."""
    recipe = LOCALIZE_MUSIC.paper("avgn_music", AVGNConfig(), ADAM)
    size = {"sample_rate_hz": RATE, "segment_samples": 3000, "picture_side": 32, "window_shards": 4}
    experiment = replace(
        recipe,
        model=replace(SMALL_AVGN, spectrum=PowerSpectrumConfig(sample_rate_hz=RATE)),
        mixing=replace(recipe.mixing, **size),
        training=replace(recipe.training, batch_size=8, split="train", validation_split=None, select="last"),
        # The toys' clips have the same names in both.
        evaluation=replace(
            recipe.evaluation, split="test", data=make_toy_duets(tmp_path / "test").folder, allow_trained_on=True
        ),
        data=make_toy_duets(tmp_path / "train", "train").folder,
        output=str(tmp_path),
    )
    planned = PlannedRun.of(experiment)
    (looks,) = planned.reading_looks()()
    assert looks.pictures is not None
    assert looks.pictures.shape[:2] == (len(planned.looked_at), 1)
    assert looks.present.sum(dim=1).eq(2).all()
    assert looks.pictures.flatten(1).float().mean(dim=1).gt(0).all()
