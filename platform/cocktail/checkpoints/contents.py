"""What a checkpoint of anybody's may hold: every name, type and size in it is checked before it is used.

A hash says that bytes are those that were written, not by whom. So nothing in a checkpoint is executed, nothing of a
size that it merely claims is allocated, and all that is wrong with one is a UsageError of one line.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from cocktail.config.model import ModelConfig
from cocktail.types import UsageError

UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, AssertionError,
    ArithmeticError, zipfile.BadZipFile,
)  # fmt: skip
"""What torch's readers raise for bytes, and a model's code for settings, that are not what they should be."""
LARGEST_META = 1 << 24
"""Bytes of the largest meta.json that is read: hundreds of settings and a hundred thousand classes fit."""
_LARGEST_BUFFERS = 1 << 30
"""Bytes that a model may keep beside its weights: windows, filter banks."""
_SHOWN = 3

ValueT = TypeVar("ValueT")


def read_meta(location: str, data: bytes) -> dict[str, Any]:
    """The plain values of a checkpoint's meta.json, with those that every schema has. Raises UsageError."""
    try:
        meta = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(_damaged(location, f"its meta.json is no JSON ({error})")) from error
    if not isinstance(meta, dict):
        raise UsageError(_damaged(location, "its meta.json holds no values by name"))
    return meta


def require_meta(location: str, meta: Mapping[str, Any]) -> None:
    """Raise UsageError unless a meta.json that this version reads has all that it needs."""
    best = meta.get("best_step")
    if value_of(location, meta, "step", int) < 0 or (
        best is not None and value_of(location, meta, "best_step", int) < 0
    ):
        raise UsageError(_damaged(location, "its steps are negative"))
    if not re.fullmatch("[0-9a-f]{64}", value_of(location, meta, "sha256", str)):
        raise UsageError(_damaged(location, "its sha256 is no hash"))
    for name in ("identity", "about"):
        value_of(location, meta, name, dict)


def value_of(location: str, values: Mapping[str, Any], name: str, kind: type[ValueT]) -> ValueT:
    """A named value of a checkpoint. Raises UsageError if it is not there or of another type."""
    value = values.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        what = "is missing" if value is None else f"is a {type(value).__name__}, no {kind.__name__}"
        raise UsageError(_damaged(location, f"{name} {what}"))
    return value


def names_of(location: str, values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of names, all different, in a checkpoint. Raises UsageError."""
    names = value_of(location, values, name, list)
    if not all(isinstance(each, str) for each in names) or len(set(names)) < len(names):
        raise UsageError(_damaged(location, f"{name} are no names that differ"))
    return tuple(names)


def unpack_state(location: str, data: bytes) -> dict[str, Any]:
    """The state in the bytes of a state.pt, on the CPU; `model` in it are dense tensors by name.

    Raises UsageError for what torch.save does not write, for what is more than tensors and plain values, and for
    archives that would become larger than they are.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > len(data):
            raise UsageError(_damaged(location, f"its {len(data)} bytes would become {unpacked}"))
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except UNREADABLE as error:
        # What torch says of it is how to load it all the same.
        why = f"its state.pt is no archive of tensors and plain values ({type(error).__name__})"
        raise UsageError(_damaged(location, why)) from error
    if not isinstance(state, dict):
        raise UsageError(_damaged(location, "its state.pt holds no state"))
    for name, weight in value_of(location, state, "model", dict).items():
        if not isinstance(name, str) or not isinstance(weight, Tensor) or weight.layout != torch.strided:
            raise UsageError(_damaged(location, f"its weight {name!r:.80} is no tensor"))
        if weight.device.type != "cpu":
            raise UsageError(_damaged(location, f"its weight {name:.80} has no values"))
    return state


def require_weights(location: str, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise UsageError, naming some, unless weights have the names, shapes and types of a model's own."""
    wrong = [
        why for name in dict.fromkeys((*own, *weights)) if (why := _why_not(name, weights.get(name), own.get(name)))
    ]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UsageError(
            f"{location} does not hold the weights of the model that its settings describe: "
            f"{'; '.join(wrong[:_SHOWN])}{more}. It is damaged, or was changed: take another checkpoint"
        )


def _why_not(name: str, theirs: Tensor | None, ours: Tensor | None) -> str | None:
    if theirs is None:
        return f"{name} is missing"
    if ours is None:
        return f"the model has no {name:.80}"
    if theirs.shape != ours.shape:
        return f"{name} has the shape {list(theirs.shape)}, not {list(ours.shape)}"
    if theirs.dtype != ours.dtype:
        return f"{name} is of {theirs.dtype}, not {ours.dtype}"
    return None


def outline(build: Callable[[], nn.Module], most_parameters: int | None = None) -> nn.Module:
    """What `build` builds, without memory for its tensors (on torch's meta device).

    Raises ValueError once it has more than `most_parameters` parameters, and what `build` raises.
    """
    counted = 0

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal counted
        counted += parameter is not None
        if most_parameters is not None and counted > most_parameters:
            raise ValueError(f"it would have more than {most_parameters} weights")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            return build()
    finally:
        hook.remove()


def require_built_without_values(config: ModelConfig, num_classes: int) -> None:
    """Raise UsageError, naming the configuration, if the model, which can be built, cannot be outlined."""
    try:
        outline(functools.partial(config.build, num_classes))
    except UNREADABLE as error:
        kind, why = type(config), str(error).split("\n")[0][:300] or type(error).__name__
        raise UsageError(
            f"{kind.__module__}:{kind.__qualname__} does not build on torch's meta device, so no checkpoint of it "
            f"could be opened: {why}. Its build must not ask for the value of a tensor (docs/extending.md)"
        ) from error


def require_outline(location: str, weights: Mapping[str, Tensor], build: Callable[[], nn.Module]) -> None:
    """Raise UsageError unless weights are all those of the model that `build` builds, before any of it is allocated."""
    with telling_of_settings(location):
        # A few are set and then replaced while a model is built.
        model = outline(build, most_parameters=2 * len(weights) + 100)
    require_weights(location, weights, model.state_dict())
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    if buffers > _LARGEST_BUFFERS + sum(weight.numel() * weight.element_size() for weight in weights.values()):
        raise UsageError(_damaged(location, f"its settings ask for {buffers / 1e9:.1f} GB beside the weights"))


@contextmanager
def telling_of_settings(location: str) -> Iterator[None]:
    """Turn what is raised over a checkpoint's settings into a UsageError that names the checkpoint."""
    try:
        yield
    except UNREADABLE as error:
        why = str(error).split("\n")[0][:300]
        raise UsageError(f"the settings in {location} make no model: {why or type(error).__name__}") from error


@contextmanager
def telling_of_state(location: str, what: str) -> Iterator[None]:
    """Turn what is raised over a part of a checkpoint's state into a UsageError that names both."""
    try:
        yield
    except UNREADABLE as error:
        why = str(error).split("\n")[0][:300]
        raise UsageError(_damaged(location, f"its {what} cannot be gone on with ({why})")) from error


def _damaged(location: str, why: str) -> str:
    return f"{location} is damaged: {why}. Take another checkpoint, or delete it to go on from an earlier one"
