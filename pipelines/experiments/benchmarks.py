"""What the jobs of models that localize have in common: scenes to see and hear, and the recipe."""

from __future__ import annotations

import dataclasses
from typing import Any

from cocktail.config.experiment import Experiment
from cocktail.config.mixing import Mixing
from cocktail.config.training import Training

# AVGN section 4: three seconds and one frame a clip, sounds added as they are.
SCENES = Mixing(
    num_sources=2,
    sample_rate_hz=22050,
    segment_samples=66150,
    min_gain=1.0,
    max_gain=1.0,
    pictures_per_source=1,
)
# Adam at 1e-4 without decay, 128 mixtures a step, 100 epochs. Without decay AdamW is Adam. The authors choose their
# checkpoint by its score on the test set; ours is chosen by its loss on recordings that training leaves out.
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


def localizing_demo_of(paper: Experiment, small_model: Any) -> Experiment:
    """`demo_of` on small pictures, tested on pairs that are drawn, since the small corpus has no official ones.

    Batches are larger: a contrast needs others to compare with. All recordings are trained on, as there are few, and
    the last checkpoint is tested.
    """
    demo = demo_of(paper, small_model)
    return dataclasses.replace(
        demo,
        mixing=dataclasses.replace(demo.mixing, picture_side=128),
        training=dataclasses.replace(
            demo.training, batch_size=16, learning_rate=1e-3, split="train", validation_split=None, select="last"
        ),
        evaluation=dataclasses.replace(demo.evaluation, pairs="drawn", num_mixtures=40, split="test"),
    )


def demo_of(paper: Experiment, small_model: Any) -> Experiment:
    """Some minutes on two cores in place of the paper's recipe: a small model, few steps, few test mixtures."""
    return dataclasses.replace(
        paper,
        name=f"{paper.name}_demo",
        model=small_model,
        mixing=dataclasses.replace(paper.mixing, passes_per_epoch=40),
        training=dataclasses.replace(
            paper.training,
            max_steps=300,
            batch_size=8,
            optimizer="adamw",
            lr_drop_epochs=(),
            checkpoint_every=100,
            log_every=20,
        ),
        evaluation=dataclasses.replace(
            paper.evaluation, num_mixtures=None if paper.evaluation.num_mixtures is None else 40
        ),
    )
