"""What a trained model takes and gives, whatever its tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cocktail.inference.trained import Trained
from cocktail.tasks.task import MIXTURE, PICTURES, Signature, TensorForm, pictures_form
from cocktail.types import Query, UsageError

_EXAMPLE_SECONDS = 1.0
_STEPS = 64
"""Values of the example are so many a unit, so that they are short as text."""


def signature_of(trained: Trained) -> Signature:
    """What a trained model takes and gives: what all of its tasks take, and what each of them gives, by name.

    The metadata names the tasks, and what makes the inputs. The packages are the model's and the tasks'.
    """
    tasks = trained.tasks
    inputs: dict[str, TensorForm] = {}
    outputs: dict[str, TensorForm] = {}
    metadata: dict[str, Any] = {
        "sample_rate_hz": trained.mixing.sample_rate_hz,
        "classes": list(trained.classes),
        "tasks": [task.name for task in tasks],
    }
    packages = list(trained.config.packages)
    for task in tasks:
        own = task.signature(trained)
        inputs |= own.inputs
        outputs |= own.outputs
        metadata |= own.metadata
        packages += own.packages
    return Signature(inputs=inputs, outputs=outputs, metadata=metadata, packages=tuple(packages))


def example_of(trained: Trained) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What can be given to a trained model: a second of two tones, with grey pictures if it looks, by name; and who is
    asked for, the first of its classes or, of a model that cannot say which source is of which class, a number.
    """
    number = min(trained.mixing.num_sources, len(trained.classes))
    names = list(trained.classes[:number])
    rate = trained.mixing.sample_rate_hz
    inputs = _inputs(trained, int(_EXAMPLE_SECONDS * rate), number)
    # Asked with as much sound as it learned from: whether it can name sources does not depend on the length.
    given = {name: torch.from_numpy(value) for name, value in _inputs(trained, None, number).items()}
    pictures = given.get(PICTURES)
    if pictures is not None and trained.mixing.pictures_per_source == 1:
        pictures = pictures[:, :, None]
    query = Query.naming(torch.arange(number)[None], pictures)
    try:
        with torch.no_grad():
            for task in trained.tasks:
                task.answer(trained.model, given[MIXTURE], query)
    except UsageError:
        return inputs, {"num_sources": number, "sample_rate_hz": rate}
    return inputs, {"classes": names, "sample_rate_hz": rate}


def _inputs(trained: Trained, num_samples: int | None, num_sources: int) -> dict[str, np.ndarray]:
    """Inputs of one mixture, of as much sound as it learned from where no length is given."""
    length, rate = num_samples or trained.mixing.segment_samples, trained.mixing.sample_rate_hz
    seconds = np.arange(length) / rate
    tones = 0.25 * np.sin(2 * np.pi * 220 * seconds) + 0.25 * np.sin(2 * np.pi * 660 * seconds)
    inputs: dict[str, np.ndarray] = {MIXTURE: (np.round(tones * _STEPS) / _STEPS).astype(np.float32)[None]}
    if PICTURES in signature_of(trained).inputs:
        shape = pictures_form(trained.mixing).shape
        inputs[PICTURES] = np.full((1, num_sources, *shape[2:]), 127, np.uint8)
    return inputs
