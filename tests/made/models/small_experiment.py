"""An experiment on toy shards that trains in seconds."""

from cocktail.audio.stft import FrontEndConfig
from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.config.mixing import Mixing
from cocktail.config.resources import Resources
from cocktail.config.training import Training
from cocktail.models.sgn import SGNConfig
from tests.made.corpora.toy_shards import RATE

SMALL = Experiment[SGNConfig](
    name="small",
    model=SGNConfig(
        width=16,
        depth=1,
        num_heads=2,
        unet_width=4,
        unet_depth=6,
        num_frames=64,
        front_end=FrontEndConfig(n_fft=254, hop_length=64, num_rows=64),
    ),
    mixing=Mixing(sample_rate_hz=RATE, segment_samples=64 * 64 - 1, window_shards=2),
    training=Training(epochs=4, batch_size=8, optimizer="adamw", lr_drop_epochs=(), checkpoint_every=4, log_every=2),
    evaluation=Evaluation(num_mixtures=6, batch_size=2, num_examples=1),
    resources=Resources(gpu="no"),
)
