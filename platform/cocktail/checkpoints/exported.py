"""A checkpoint as it is handed on: weights as safetensors, all that is known of them as JSON, and no pickle.

The folder holds `model.safetensors` and `cocktail.json`, beside a card for people. It is opened as any checkpoint is
(`cocktail.checkpoints.store`), with the same checks; training does not go on from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from cocktail.storage import join, write_atomic
from cocktail.types import UsageError

EXPORT_SCHEMA = "cocktail-export/1"
CONFIG_NAME, WEIGHTS_NAME = "cocktail.json", "model.safetensors"


def write_exported(folder: str, step: int, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """Write a model's weights, and what is known of it, into a folder or URI. Returns the SHA-256 of the weights' file.

    The config is written last: without it the folder holds no model.
    """
    data = pack_weights(weights)
    sha256 = hashlib.sha256(data).hexdigest()
    config = {"schema": EXPORT_SCHEMA, "step": step, "sha256": sha256, "identity": {}, "weights": list(weights)}
    write_atomic(join(folder, WEIGHTS_NAME), data)
    text = json.dumps({**config, "about": about}, indent=1, ensure_ascii=False)
    write_atomic(join(folder, CONFIG_NAME), f"{text}\n".encode())
    return sha256


def pack_weights(weights: Mapping[str, Tensor]) -> bytes:
    """Weights as the bytes of a file of safetensors, which knows no two names of one tensor: each is written."""
    return safetensors.torch.save({name: weight.contiguous().clone() for name, weight in weights.items()})


def unpack_weights(location: str, data: bytes, order: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The weights in a file of safetensors, on the CPU, in an order if it is known: the file has one of its own.

    Raises UsageError for what is none, and for other names than those of the order.
    """
    try:
        weights = safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError of a type that torch does not have
        raise UsageError(f"{location} is damaged: its {WEIGHTS_NAME} is none ({error}). Get it again") from error
    if order is None:
        return weights
    if set(order) != weights.keys():
        raise UsageError(f"{location} is damaged: its {WEIGHTS_NAME} holds other weights than it says. Get it again")
    return {name: weights[name] for name in order}
