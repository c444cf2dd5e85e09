"""The data sets that models train and are tested on, each said once for each task, and the papers' recipes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.config.training import Training


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A data set as models of one task train and are tested on it."""

    word: str
    """Name on a job's command line, and the end of an experiment's name."""
    trains_on: str
    tests_on: str
    shards: str
    """Jobs that make its shards, with the options that this task needs."""
    mixing: Mixing
    evaluation: Evaluation
    tests_elsewhere: bool = False
    """Whether it is tested on another data set, which --evaluation.data has to name."""
    embedded: bool = False
    """Whether the embedded corpus stands in for data that is not given."""
    demo_mixtures: int | None = 40
    """Test mixtures of the demo, of each number of sources; None tests all."""
    demo_segment_samples: int | None = None
    """Length of the demo's mixtures in samples; None is the paper's."""
    demo_steps: int = 300
    """Training steps of the demo."""
    demo_cosine: bool = False
    """Whether the demo's learning rate falls along half a cosine; it stays the same otherwise."""

    def of_single_sources(self, trains_on: str) -> Benchmark:
        """The same, trained on single sources, for a model that has one map for all that it hears: of a mixture it
        cannot say which part of the picture is whose. Its tests stay."""
        return dataclasses.replace(self, mixing=dataclasses.replace(self.mixing, num_sources=1), trains_on=trains_on)

    def paper(self, name: str, model: ModelConfig, training: Training) -> Experiment:
        """A model's experiment as its paper does it."""
        fitted = model.fitted_to(self.mixing)
        return Experiment(name=name, model=fitted, mixing=self.mixing, training=training, evaluation=self.evaluation)

    def demo(self, paper: Experiment, small: ModelConfig) -> Experiment:
        """Some minutes on two cores in place of the paper's recipe: a small model, few steps, few test mixtures.

        All recordings are trained on, as there are few, the last checkpoint is tested, and test pairs are drawn, since
        the small corpus has no official ones.
        """
        smaller: dict[str, int] = {"picture_side": 128} if paper.mixing.pictures_per_source else {}
        if self.demo_segment_samples is not None:
            smaller["segment_samples"] = self.demo_segment_samples
        return dataclasses.replace(
            paper,
            name=f"{paper.name}_demo",
            model=small.fitted_to(self.mixing),
            mixing=dataclasses.replace(paper.mixing, passes_per_epoch=40, **smaller),
            training=dataclasses.replace(
                paper.training,
                split="train",
                validation_split=None,
                select="last",
                max_steps=self.demo_steps,
                # A loss that compares mixtures needs others to compare with.
                batch_size=16 if small.fewest_mixtures > 1 else 8,
                optimizer="adamw",
                learning_rate=1e-3,
                # A schedule of its own, whatever the recipe's is.
                lr_warm_up_steps=0,
                lr_drop_epochs=(),
                lr_drop_steps=(),
                lr_drop_factor=Training.lr_drop_factor,
                lr_decay_every=None,
                lr_decay_factor=Training.lr_decay_factor,
                lr_cosine=self.demo_cosine,
                checkpoint_every=200,
                log_every=20,
            ),
            evaluation=dataclasses.replace(paper.evaluation, pairs="drawn", num_mixtures=self.demo_mixtures),
        )

    def describe(self) -> str:
        """What its name on a command line stands for."""
        without = "a small corpus of sampled instruments, made on first use" if self.embedded else "does not run"
        parts = {
            "trains on": self.trains_on,
            "tests on": self.tests_on,
            "shards": self.shards,
            "without --data": without,
        }
        return "\n".join([self.word, *(f"    {name:16}{text}" for name, text in parts.items())])


# SGN section IV: two sources, batch 80, 100 epochs of SGD, on binary masks; the rest is Sound of Pixels' recipe.
SGD = Training(epochs=100, batch_size=80, optimizer="sgd", learning_rate=1e-3, lr_drop_epochs=(40, 80))
# AVGN section 4: Adam at 1e-4 without decay, 128 mixtures a step, 100 epochs. Without decay AdamW is Adam. The authors
# choose their checkpoint by its score on the test set; ours is chosen by its loss on recordings that training leaves
# out.
ADAM = Training(
    split="train[5%:]",
    epochs=100,
    batch_size=128,
    optimizer="adamw",
    learning_rate=1e-4,
    weight_decay=0.0,
    lr_drop_epochs=(),
    validation_split="train[:5%]",
    validation_mixtures=256,
    select="best",
)
# Co-Separation's published command: 35,000 steps of 80 mixtures, wherever in an epoch they end.
CO_SEPARATION = Training(
    epochs=100,
    max_steps=35000,
    batch_size=80,
    optimizer="adam",
    learning_rate=1e-4,
    lr_drop_epochs=(),
    lr_drop_steps=(15000, 30000),
)

# Co-segmentation names no recipe: Adam at Co-Separation's rates, epochs of 1,117 steps of 32 mixtures.
COSEGMENTATION = Training(epochs=100, batch_size=32, optimizer="adam", learning_rate=1e-4, lr_drop_epochs=())
COSEGMENTATION_STEPS = 1117

PAIRS = Mixing(num_sources=2)


@dataclass(frozen=True, kw_only=True)
class Separation(Benchmark):
    """A data set that separators train on. The demo's mixtures are half as long, for twice as many steps a minute."""

    demo_segment_samples: int | None = 32767
    """2.972 s at 11,025 Hz: 128 frames, as `SMALL_SGN` takes them."""
    demo_mixtures: int | None = 100
    demo_steps: int = 1800
    demo_cosine: bool = True


SEPARATE_VGGSOUND = Separation(
    word="vggsound",
    trains_on="mixtures of two clips of VGG-Sound, of different classes",
    tests_on="1000 pairs of its test clips",
    shards="jobs/shard_vggsound.py",
    mixing=PAIRS,
    evaluation=Evaluation(num_mixtures=1000),
    embedded=True,
)
SEPARATE_MUSIC = Separation(
    word="music",
    trains_on="mixtures of two solos of MUSIC, of different instruments",
    tests_on="1000 pairs of its val split, the solos that are not trained on, as in the paper",
    shards="jobs/shard_music.py --solo JSON",
    # An epoch lists every solo a hundred times, as Sound of Pixels does; without that an epoch would be four steps.
    mixing=dataclasses.replace(PAIRS, passes_per_epoch=100),
    evaluation=Evaluation(split="val", num_mixtures=1000),
)
SEPARATE_FUSS = Separation(
    word="fuss",
    # The paper says "two sources"; FUSS mixtures have one to four.
    trains_on="two sources of a mixture of FUSS that has two or more, summed again",
    tests_on="all eval mixtures that were released with two",
    shards="jobs/shard_fuss.py --fsd50k FOLDER --sample-rate-hz 11025",
    mixing=dataclasses.replace(PAIRS, arrangement="released"),
    evaluation=Evaluation(split="eval", whole_groups=True, num_mixtures=None),
    demo_mixtures=None,
)
SEPARATE_FUSS_RELEASED = dataclasses.replace(
    SEPARATE_FUSS,
    word="fuss_released",
    trains_on="mixtures of FUSS as they were released, ten seconds of one to four sources",
    tests_on="all eval mixtures, by the number of their sources",
    shards="jobs/shard_fuss.py --sample-rate-hz 16000",
    mixing=dataclasses.replace(
        SEPARATE_FUSS.mixing,
        num_sources=4,
        min_sources=1,
        distinct_classes=False,
        sample_rate_hz=16000,
        segment_samples=160000,
    ),
    demo_segment_samples=None,  # mixtures as they were released, in the demo, too
    demo_steps=200,
)
SEPARATE_MUSDB18 = Separation(
    word="musdb18",
    trains_on="two stems of a song of MUSDB18; --mixing.num-sources 4 takes all four",
    tests_on="1000 pairs of stems of its test songs",
    shards="jobs/shard_musdb18.py",
    # The paper gives one SI-SDR and no protocol. A song leads a hundred mixtures an epoch, as a solo of MUSIC does. Of
    # 50 songs the middles alone would give 300 different pairs.
    mixing=dataclasses.replace(PAIRS, arrangement="released", passes_per_epoch=100),
    evaluation=Evaluation(split="test", num_mixtures=1000, crop="random"),
)
SEPARATION = (SEPARATE_VGGSOUND, SEPARATE_MUSIC, SEPARATE_FUSS, SEPARATE_MUSDB18)


@dataclass(frozen=True, kw_only=True)
class SeparationBySight(Separation):
    """A data set with pictures that separators train on which look at them."""

    def demo(self, paper: Experiment, small: ModelConfig) -> Experiment:
        """The demo with one picture a source, of which alone it is known where the source is."""
        demo = super().demo(paper, small)
        return dataclasses.replace(demo, mixing=dataclasses.replace(demo.mixing, pictures_per_source=1))


def _by_sight(benchmark: Separation, shards: str) -> SeparationBySight:
    """A benchmark with three pictures a source, as Sound of Pixels has them."""
    mixing = dataclasses.replace(benchmark.mixing, pictures_per_source=3)
    return SeparationBySight(**{**vars(benchmark), "mixing": mixing, "shards": shards})


# FUSS and MUSDB18 have no pictures.
SEPARATION_BY_SIGHT = (
    _by_sight(SEPARATE_VGGSOUND, "jobs/shard_vggsound.py --frames 10"),
    _by_sight(SEPARATE_MUSIC, "jobs/shard_music.py --solo JSON"),
)


def _of_scenes(benchmark: SeparationBySight) -> SeparationBySight:
    """A benchmark of three sources, of which a test shows all but one: AVSA-Sep's Table 2. By its eq. 3 models that
    only see are scored on the one, too."""
    return dataclasses.replace(
        benchmark,
        trains_on=benchmark.trains_on.replace(" two ", " three "),
        tests_on=f"{benchmark.tests_on}; in threes, and the pictures of one of the three are withheld",
        mixing=dataclasses.replace(benchmark.mixing, num_sources=3),
        evaluation=dataclasses.replace(benchmark.evaluation, shown_sources="all_but_one"),
        demo_steps=1200,
    )


SEPARATE_MUSIC_SCENES, SEPARATE_VGGSOUND_SCENES = (_of_scenes(benchmark) for benchmark in SEPARATION_BY_SIGHT[::-1])
SEPARATION_OF_SCENES = (SEPARATE_MUSIC_SCENES, SEPARATE_VGGSOUND_SCENES)
# Co-Separation trains on one picture of each object at a time.
SEPARATION_BY_A_GLANCE = tuple(
    dataclasses.replace(benchmark, mixing=dataclasses.replace(benchmark.mixing, pictures_per_source=1))
    for benchmark in SEPARATION_BY_SIGHT
)
# Co-segmentation: solos and duets of MUSIC, and a test of each pair of instruments, of solos alone, ten times.
COSEGMENT_MUSIC = dataclasses.replace(
    SEPARATION_BY_A_GLANCE[1],
    trains_on="mixtures of two videos of MUSIC, solos and duets, that share no instrument",
    tests_on="its 55 pairs of instruments, ten crops each, of the second solo of each in the released list",
    shards="jobs/shard_music.py --solo JSON --duet JSON --split first-second",
    mixing=dataclasses.replace(
        SEPARATION_BY_A_GLANCE[1].mixing,
        several_classes=True,
        passes_per_epoch=1,
        mixtures_per_epoch=COSEGMENTATION_STEPS * COSEGMENTATION.batch_size,
    ),
    evaluation=Evaluation(pairs="classes", crop="random", num_mixtures=None),
)
COSEGMENT_AUDIOSET = dataclasses.replace(
    COSEGMENT_MUSIC,
    word="audioset",
    tests_on="AudioSet-SingleSource with --evaluation.data TEST: each pair of classes, ten crops; of all classes there "
    "are, or of those that --evaluation.classes names (the 15 instruments; --evaluation.class-draw 11 adds the mean "
    "over draws of 11 of them)",
    shards=f"{COSEGMENT_MUSIC.shards}; TEST: jobs/shard_audioset_singlesource.py --root FOLDER --frames 10",
    tests_elsewhere=True,
)
COSEGMENT = (SEPARATION_BY_A_GLANCE[0], COSEGMENT_MUSIC, COSEGMENT_AUDIOSET)

# AVGN section 4: three seconds and one frame a clip, sounds added as they are.
SCENES = Mixing(
    num_sources=2,
    sample_rate_hz=22050,
    segment_samples=66150,
    min_gain=1.0,
    max_gain=1.0,
    pictures_per_source=1,
)
# Success from which IoU and CIoU on is AVGN's Tables 1 and 2.
LOCALIZE_VGGSOUND = Benchmark(
    word="vggsound",
    trains_on="two clips of VGG-Sound: their pictures side by side, their sounds added",
    tests_on="VGG-SS, single and in AVGN's pairs, with --evaluation.data TEST",
    shards="jobs/shard_vggsound.py --sample-rate-hz 22050; TEST: jobs/shard_vggss.py --duet LIST "
    "--sample-rate-hz 22050",
    mixing=SCENES,
    evaluation=Evaluation(num_sources=(1, 2), num_mixtures=None, pairs="official"),
    embedded=True,
)
LOCALIZE_INSTRUMENTS = Benchmark(
    word="instruments",
    trains_on="two clips of VGGSound-Instruments (37 instruments), as of VGG-Sound",
    tests_on="frames with segmentation masks, single and in AVGN's pairs",
    shards="jobs/shard_vgginstruments.py --test FOLDER --test-list LIST --multi LIST --sample-rate-hz 22050",
    mixing=SCENES,
    evaluation=Evaluation(
        num_sources=(1, 2), num_mixtures=None, pairs="official", single_threshold=0.3, multi_threshold=0.1
    ),
)
LOCALIZE_MUSIC = Benchmark(
    word="music",
    # A duet is one clip with one picture of both instruments. Boxes are of the videos on DSOL's or AVGN's test lists.
    trains_on="two solos of MUSIC, as of VGG-Sound; --mixing.arrangement whole takes its duets",
    tests_on="annotated frames of solos by themselves and of duets as they are",
    shards="jobs/shard_music.py --solo JSON --duet JSON --boxes JSON --split lists --train-list LIST --test-list LIST "
    "--sample-rate-hz 22050",
    # An epoch lists every solo a hundred times, as SGN's does.
    mixing=dataclasses.replace(SCENES, passes_per_epoch=100),
    evaluation=Evaluation(arrangement="whole", num_sources=(1, 2), num_mixtures=None, crop="annotated"),
)
LOCALIZATION = (LOCALIZE_VGGSOUND, LOCALIZE_INSTRUMENTS, LOCALIZE_MUSIC)
# EZ-VSL learns from one clip and its frame; AVGN's Tables 1 and 2 have it on single sources and on pairs.
LOCALIZATION_OF_ONE = (
    LOCALIZE_VGGSOUND.of_single_sources("single clips of VGG-Sound, each with its own picture"),
    LOCALIZE_INSTRUMENTS.of_single_sources("single clips of VGGSound-Instruments (37 instruments)"),
    LOCALIZE_MUSIC.of_single_sources("solos of MUSIC, each with its own picture"),
)
