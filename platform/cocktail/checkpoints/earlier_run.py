"""Weights of an earlier run's checkpoint: all of a model, or the parts of it that are named.

A part is a module, named as in the model's state dict (`unet`, `visual_encoder.resnet`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from cocktail.checkpoints.contents import names_of
from cocktail.checkpoints.store import find_checkpoint, load_checkpoint, read_about
from cocktail.types import UsageError

Weights = Mapping[str, Tensor]
_SHOWN = 3


def take_weights(
    location: str, parts: Sequence[str], model: nn.Module, build: Callable[[int], nn.Module], classes: Sequence[str]
) -> tuple[str, dict[str, Tensor]]:
    """A checkpoint's location, and the weights that a model of these classes takes from it, by name.

    `location` is a checkpoint's, an exported model's, or a run's folder, whose selected checkpoint it means. Without
    `parts` the whole model is taken. Raises UsageError if there is no checkpoint, if a part is not in both, or if
    weights have other names, shapes or classes.
    """
    checkpoint = find_checkpoint(location, "--start-from")
    theirs: Weights = load_checkpoint(checkpoint).state["model"]
    ours: Weights = model.state_dict()
    for part in parts:
        for weights, whose in ((theirs, f"{checkpoint} has"), (ours, "this model has")):
            if not any(_is_in(name, [part]) for name in weights):
                raise UsageError(f"--start-parts {part}: {whose} no such part. It has {', '.join(_modules(weights))}")
    by_class = set()
    if names_of(checkpoint, read_about(checkpoint), "classes") != tuple(classes):
        by_class = names_of_classes(ours, build(len(classes) + 1).state_dict())
    taken = {name: value for name, value in theirs.items() if not parts or _is_in(name, parts)}
    wanted = {name: value for name, value in ours.items() if not parts or _is_in(name, parts)}
    wrong = [
        why
        for name in sorted({*taken, *wanted})
        if (why := _why_not(name, taken.get(name), wanted.get(name), name in by_class)) is not None
    ]
    if wrong:
        fitting = _fitting(theirs, ours, by_class)
        advice = f"the parts that fit are {', '.join(fitting)} (--start-parts)" if fitting else "no part fits"
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UsageError(
            f"{parts_text(parts)} of {checkpoint} does not fit this model: {'; '.join(wrong[:_SHOWN])}{more}. "
            f"Of the checkpoint, {advice}"
        )
    return checkpoint, taken


def names_of_classes(weights: Weights, of_one_more: Weights) -> set[str]:
    """Names of the weights that depend on the class list.

    Where there is one class more, they have another shape or are not there, or their module has more weights: a list
    with a head per class.
    """
    growing = {_innermost_module(name, weights) for name in of_one_more.keys() - weights.keys()}
    return {
        name
        for name, value in weights.items()
        if name not in of_one_more
        or value.shape != of_one_more[name].shape
        or any(name.startswith(module) for module in growing)
    }


def _innermost_module(absent: str, weights: Weights) -> str:
    """Prefix, with its dot, of the innermost module of an absent weight that has weights; "" is the whole model."""
    modules = absent.split(".")[:-1]
    while modules and not any(_is_in(name, [".".join(modules)]) for name in weights):
        modules.pop()
    return ".".join([*modules, ""])


def weights_hash(weights: Weights) -> str:
    """SHA-256 of weights: of names, types, shapes and values, in their order. Registered models are found by it."""
    sha256 = hashlib.sha256()
    for name, value in weights.items():
        sha256.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha256.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()


def parts_text(parts: Sequence[str]) -> str:
    """Names of what is taken of a model, for people."""
    return ", ".join(parts) if parts else "the whole model"


def _is_in(name: str, parts: Sequence[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _modules(weights: Weights) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in weights))


def _why_not(name: str, theirs: Tensor | None, ours: Tensor | None, is_by_class: bool) -> str | None:
    """Why a weight cannot be taken, or None if it can."""
    if theirs is None:
        return f"it has no {name}"
    if ours is None:
        return f"the model has no {name}"
    if is_by_class:
        return f"{name} is of other classes"
    if theirs.shape != ours.shape:
        return f"{name} has the shape {list(theirs.shape)}, the model's {list(ours.shape)}"
    if theirs.dtype != ours.dtype:
        return f"{name} is of {theirs.dtype}, the model's of {ours.dtype}"
    return None


def _fitting(theirs: Weights, ours: Weights, by_class: set[str]) -> list[str]:
    """The modules of which everything can be taken."""
    names = {*theirs, *ours}
    bad = {
        name.partition(".")[0]
        for name in names
        if _why_not(name, theirs.get(name), ours.get(name), name in by_class) is not None
    }
    return [module for module in _modules(ours) if module not in bad]
