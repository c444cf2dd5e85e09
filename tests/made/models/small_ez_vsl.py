"""An EZ-VSL that is built in milliseconds."""

from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.models.ez_vsl import EZVSLConfig
from tests.made.corpora.shapes_and_tones import RATE

SMALL = EZVSLConfig(width=16, resnet_width=8, initial_weights="none", spectrum=PowerSpectrumConfig(sample_rate_hz=RATE))
