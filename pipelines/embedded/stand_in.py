"""The shards of an experiment: those that are named, or the embedded corpus in their place."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from cocktail.cluster.connection import connect, num_nodes
from cocktail.config.experiment import Experiment
from cocktail.storage import absolute, join
from cocktail.types import UsageError
from pipelines.datasets.vggss import index_with_boxes
from pipelines.embedded.corpus import MARKER, TAKES, make_embedded_corpus
from pipelines.shards.dataset import shard_dataset
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.plan import SHARD_SCHEMA, ShardSettings


def open_data(experiment: Experiment, tracking_uri: str) -> Manifest:
    """The shards that the experiment names, or those of the embedded corpus, made on first use."""
    if experiment.data is not None:
        return open_manifest(absolute(experiment.data, "--data"))
    if "://" in experiment.output:
        raise UsageError(
            f"the embedded corpus is made on one machine, not in {experiment.output}: give --data, or a local --output"
        )
    connect(tracking_uri)
    if num_nodes() > 1:
        raise UsageError(
            f"the embedded corpus is made on one machine's disk, and this cluster has {num_nodes()} nodes: give --data"
        )
    corpus = make_embedded_corpus(join(experiment.output, "embedded", "corpus"))
    # Corpora of two recipes have clips of the same ids: shards of one must not be taken for the other's.
    recipe = hashlib.sha256((corpus / MARKER).read_bytes()).hexdigest()[:8]
    return _shards(corpus.absolute(), recipe, experiment.mixing.sample_rate_hz)


_SHARD_MB = 5.3
"""Makes 17 shards to train on. Mixtures are drawn within windows of shards: in others, what is recorded of the small
networks would be of other mixtures."""


@cache
def _shards(corpus: Path, recipe: str, sample_rate_hz: int) -> Manifest:
    """Shards of a corpus, made or completed once a process: a comparison opens the data of each of its systems."""
    settings = ShardSettings(
        dataset="embedded", sample_rate_hz=sample_rate_hz, num_frames=TAKES["train"], shard_mb=_SHARD_MB
    )
    version = SHARD_SCHEMA.rpartition("/")[2]
    shards = join(str(corpus.parent), f"shards-with-boxes-{sample_rate_hz}-{version}-{recipe}")
    index = index_with_boxes(str(corpus / "vggsound.csv"), str(corpus / "videos"), boxes=str(corpus / "vggss.json"))
    return shard_dataset(index, settings, shards)
