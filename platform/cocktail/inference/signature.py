"""What a trained model takes and gives, whatever its tasks."""

from __future__ import annotations

from typing import Any

from cocktail.inference.trained import Trained
from cocktail.tasks.task import Signature, TensorForm


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
