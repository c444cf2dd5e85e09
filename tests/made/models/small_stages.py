"""An experiment of a model that learns in stages, on toy shards with pictures; each stage trains in seconds."""

from dataclasses import replace

from cocktail.config.experiment import Experiment
from cocktail.config.resources import Resources
from cocktail.models.mp_net import MPNetConfig
from tests.made.models.small_experiment import SMALL as SMALL_EXPERIMENT
from tests.made.models.small_sound_of_pixels import SMALL as SOUND_OF_PIXELS

SMALL = Experiment[MPNetConfig](
    name="staged",
    model=MPNetConfig(**vars(SOUND_OF_PIXELS)),
    mixing=replace(SMALL_EXPERIMENT.mixing, pictures_per_source=2, picture_side=32),
    training=replace(SMALL_EXPERIMENT.training, max_steps=2),
    evaluation=replace(SMALL_EXPERIMENT.evaluation, num_mixtures=2, num_examples=0, num_looks=0),
    resources=Resources(gpu="no", executor="inline"),
)
